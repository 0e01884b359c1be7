"""PatchCamelyon as published: adopt the files that are on disk, download the others, unpack them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from pcam_agreement.core.settings import Settings as _Settings
from pcam_agreement.data import download, transfer

BLOCK = 1024  # patches in memory at once

TITLE = "PatchCamelyon"
DESCRIPTION = "the published files, from Zenodo"
SYNTHETIC = False


class Settings(_Settings):
    mirrors: list[str]  # URLs with {name}, tried in turn
    directory: str  # downloads; files that are already there are verified and adopted


@dataclass(frozen=True)
class Published:
    """A file of Zenodo record 2546921: what is downloaded, and what it unpacks to."""

    archive_bytes: int | None
    archive_md5: str
    md5: str  # of the unpacked file


# Sizes and checksums agree with TensorFlow Datasets and torchvision; the data set's own README swaps
# the valid and test columns (github.com/basveeling/pcam, issues 1 and 4).
PUBLISHED = {
    "camelyonpatch_level_2_split_train_x.h5": Published(
        6_421_353_462, "1571f514728f59376b705fc836ff4b63", "01844da899645b4d6f84946d417ba453"
    ),
    "camelyonpatch_level_2_split_train_y.h5": Published(
        21_378, "35c2d7259d906cfc8143347bb8e05be7", "0781386bf6c2fb62d58ff18891466aca"
    ),
    "camelyonpatch_level_2_split_valid_x.h5": Published(
        805_965_320, "d5b63470df7cfa627aeec8b9dc0c066e", "81cf9680f1724c40673f10dc88e909b1"
    ),
    "camelyonpatch_level_2_split_valid_y.h5": Published(
        3_038, "2b85f58b927af9964a4c15b8f7e8f179", "94d8aacc249253159ce2a2e78a86e658"
    ),
    "camelyonpatch_level_2_split_test_x.h5": Published(
        800_875_929, "d8c2d60d490dbd479f8199bdfa0cf6ec", "2614b2e6717d6356be141d9d6dbfcb7e"
    ),
    "camelyonpatch_level_2_split_test_y.h5": Published(
        3_040, "60a7035772fbdb7f34eb86d4420cf66a", "11ed647efe9fe457a4eb45df1dba19ba"
    ),
    "camelyonpatch_level_2_split_train_meta.csv": Published(
        None, "5a3dd671e465cfd74b5b822125e65b0a", "5a3dd671e465cfd74b5b822125e65b0a"
    ),
    "camelyonpatch_level_2_split_valid_meta.csv": Published(
        None, "67589e00a4a37ec317f2d1932c7502ca", "67589e00a4a37ec317f2d1932c7502ca"
    ),
    "camelyonpatch_level_2_split_test_meta.csv": Published(
        None, "3455fd69135b66734e1008f3af684566", "3455fd69135b66734e1008f3af684566"
    ),
}


def write(folder: Path, settings: Settings, seed: int, published: Mapping[str, Published] | None = None) -> None:
    """Bring every published file into the folder, verified.

    In settings.directory an unpacked file is linked (or copied, on another disk), an archive is unpacked, and what
    is missing is downloaded to there and stays, so that it is fetched once. A file whose entries lie in chunks is then
    written anew in one piece, which can be mapped into memory.

    Raises ValueError where a file is not the published one or cannot be fetched; see `download.fetch`.
    """
    for mirror in settings.mirrors:
        if "{name}" not in mirror:
            raise ValueError(f"data.pcam.mirrors: {mirror} has no {{name}}; write it where the file's name belongs.")
    directory = Path(settings.directory).expanduser()
    for name, file in (published or PUBLISHED).items():
        plain, archive = directory / name, directory / f"{name}.gz"
        if name.endswith(".csv") or plain.exists():
            download.fetch(_urls(settings, plain), plain, file.md5, file.archive_bytes)
            _link(plain, folder / name)
        else:
            download.fetch(_urls(settings, archive), archive, file.archive_md5, file.archive_bytes)
            download.unpack(archive, folder / name, file.md5)
        _in_one_piece(folder / name)


def _in_one_piece(path: Path) -> None:
    """Replace an HDF5 file whose datasets are in chunks; where it is a link, the published file stays as it was."""
    if not h5py.is_hdf5(path):
        return
    partial = path.with_name(path.name + ".partial")
    with h5py.File(path) as file:
        if all(dataset.chunks is None for dataset in file.values()):
            return
        with h5py.File(partial, "w") as whole:
            for name, dataset in file.items():
                new = whole.create_dataset(name, dataset.shape, dataset.dtype)
                for start in range(0, len(dataset), BLOCK):
                    new[start : start + BLOCK] = dataset[start : start + BLOCK]
    partial.replace(path)


def _urls(settings: Settings, path: Path) -> list[str]:
    return [mirror.replace("{name}", path.name) for mirror in settings.mirrors]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):  # no links here
            raise
        with transfer.naming(target):
            shutil.copyfile(source, target)
