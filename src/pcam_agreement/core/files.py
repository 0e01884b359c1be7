"""Files that are there whole or not at all: JSON, arrays and tables; the same content gives the same bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they take a while to import, and not every command needs them
    import numpy as np
    import pandas as pd

MARGIN = 1 << 20  # bytes beyond the content that a file may need


@contextmanager
def atomic_file(path: Path, size: int = 0) -> Iterator[Path]:
    """A temporary name beside `path`, unique to this process, that becomes `path` once all of it is written.

    size: bytes that it will need at least, where that is known. HDF5 can crash where the disk becomes full under it.

    Raises OSError with the path where the disk is, or will be, full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if size and size + MARGIN > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with naming_the_disk(path):
            yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place once all of it is written."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with naming_the_disk(path):
            yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming_the_disk(path: Path) -> Iterator[None]:
    """Report a full disk as an OSError with this path, whichever library met it and whatever it calls it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is not None:
            raise
        # HDF5, safetensors and torch keep the error's number to themselves
        full = ("No space left on device", "errno = 28", "PytorchStreamWriter failed", "unexpected pos")
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or any(text in str(error) for text in full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def existing(path: Path) -> Path:
    """The path; raises ValueError where there is nothing."""
    if not path.exists():
        raise ValueError(f"{path} is missing; run the stage that writes it (dvc repro) or dvc pull.")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: dict) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_placeholder(path: Path) -> None:
    """A line of text, which stands for what there is not: of a file of no bytes DVC would warn at every step."""
    with atomic_file(path) as partial:
        partial.write_text("nothing\n")


def read_json(path: Path) -> dict:
    return json.loads(existing(path).read_text())


def write_arrays(path: Path, arrays: dict[str, np.ndarray], **attributes: str | float) -> None:
    """Arrays by name in one HDF5 file, with attributes."""
    import h5py

    with atomic_file(path, sum(array.nbytes for array in arrays.values())) as partial, h5py.File(partial, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(existing(path), "r") as file:
        return {name: file[name][...] for name in file}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A long-form CSV with numbers of six digits."""
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")


def read_text_table(path: Path) -> pd.DataFrame:
    """A table as text, every number in the digits that it has in the file."""
    import pandas as pd

    return pd.read_csv(existing(path), dtype=str, keep_default_na=False)
