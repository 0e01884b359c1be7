"""PatchCamelyon as published: adopt the files that are on disk, download the others, unpack them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py

from pcam_agreement import download, params, pcam, transfer

BLOCK = 1024  # patches in memory at once


def fetch_pcam(folder: Path, settings: params.PCam, published: Mapping[str, pcam.Published]) -> None:
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
    for name, file in published.items():
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


def _urls(settings: params.PCam, path: Path) -> list[str]:
    return [mirror.replace("{name}", path.name) for mirror in settings.mirrors]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):  # no links here
            raise
        with transfer.naming(target):
            shutil.copyfile(source, target)
