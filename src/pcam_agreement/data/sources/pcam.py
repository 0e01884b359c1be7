"""PatchCamelyon as published: files that are on disk are adopted, the others downloaded; all are verified."""

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import h5py

from pcam_agreement.core.files import atomic_file, naming_the_disk
from pcam_agreement.core.settings import Settings as Block
from pcam_agreement.data import download
from pcam_agreement.data.pcam import file_name

TITLE = "PatchCamelyon"
DESCRIPTION = "the published files, from Zenodo"
SYNTHETIC = False

BLOCK = 1024  # patches in memory at once


class Settings(Block):
    mirrors: list[str]  # URLs with {name}, tried in turn
    directory: str  # downloads; files that are already there are verified and adopted


class Published(NamedTuple):
    """A file of Zenodo record 2546921: the archive that is downloaded, and what it unpacks to."""

    archive_bytes: int | None
    archive_md5: str
    md5: str  # of the unpacked file


# Sizes and checksums agree with TensorFlow Datasets and torchvision; the data set's own README swaps
# the valid and test columns (github.com/basveeling/pcam, issues 1 and 4).
PUBLISHED = {
    file_name("train", "x"): Published(
        6_421_353_462, "1571f514728f59376b705fc836ff4b63", "01844da899645b4d6f84946d417ba453"
    ),
    file_name("train", "y"): Published(21_378, "35c2d7259d906cfc8143347bb8e05be7", "0781386bf6c2fb62d58ff18891466aca"),
    file_name("valid", "x"): Published(
        805_965_320, "d5b63470df7cfa627aeec8b9dc0c066e", "81cf9680f1724c40673f10dc88e909b1"
    ),
    file_name("valid", "y"): Published(3_038, "2b85f58b927af9964a4c15b8f7e8f179", "94d8aacc249253159ce2a2e78a86e658"),
    file_name("test", "x"): Published(
        800_875_929, "d8c2d60d490dbd479f8199bdfa0cf6ec", "2614b2e6717d6356be141d9d6dbfcb7e"
    ),
    file_name("test", "y"): Published(3_040, "60a7035772fbdb7f34eb86d4420cf66a", "11ed647efe9fe457a4eb45df1dba19ba"),
    **{  # not archived
        file_name(split, "meta"): Published(None, md5, md5)
        for split, md5 in (
            ("train", "5a3dd671e465cfd74b5b822125e65b0a"),
            ("valid", "67589e00a4a37ec317f2d1932c7502ca"),
            ("test", "3455fd69135b66734e1008f3af684566"),
        )
    },
}


def write(folder: Path, settings: Settings, seed: int, published: dict[str, Published] | None = None) -> None:
    """Bring every published file into the folder, verified.

    In settings.directory an unpacked file is linked (or copied, from another disk), an archive is unpacked, and what
    is missing is downloaded to there and stays, so that it is fetched once. A file whose entries lie in chunks is then
    rewritten contiguously, so that it can be mapped into memory.

    Raises ValueError where a file is not the published one or cannot be fetched; see `download.fetch`.
    """
    for mirror in settings.mirrors:
        if "{name}" not in mirror:
            raise ValueError(f"data.pcam.mirrors: {mirror} has no {{name}}; write it where the file's name belongs.")
    directory = Path(settings.directory).expanduser()
    for name, (archive_bytes, archive_md5, md5) in (published or PUBLISHED).items():
        plain, archive = directory / name, directory / f"{name}.gz"
        if name.endswith(".csv") or plain.exists():
            download.fetch(_urls(settings, plain), plain, md5, archive_bytes)
            _link(plain, folder / name)
        else:
            download.fetch(_urls(settings, archive), archive, archive_md5, archive_bytes)
            download.unpack(archive, folder / name, md5)
        if h5py.is_hdf5(folder / name):
            _make_contiguous(folder / name)


def _urls(settings: Settings, path: Path) -> list[str]:
    return [mirror.replace("{name}", path.name) for mirror in settings.mirrors]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):  # no links here
            raise
        with naming_the_disk(target):
            shutil.copyfile(source, target)


def _make_contiguous(path: Path) -> None:
    """Replace an HDF5 file whose datasets are in chunks; where it is a link, the published file stays as it was."""
    with h5py.File(path) as file:
        if all(dataset.chunks is None for dataset in file.values()):
            return
        size = sum(dataset.nbytes for dataset in file.values())
        with atomic_file(path, size) as partial, h5py.File(partial, "w") as contiguous:
            for name, dataset in file.items():
                copy = contiguous.create_dataset(name, dataset.shape, dataset.dtype)
                for start in range(0, len(dataset), BLOCK):
                    copy[start : start + BLOCK] = dataset[start : start + BLOCK]
