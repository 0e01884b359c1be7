"""The heatmap file, the contract between attribution and agreement: heatmaps, and what is to be known of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from pcam_agreement.core.files import atomic_file, existing
from pcam_agreement.core.patch import PATCH
from pcam_agreement.heatmaps.levels import LEVELS, quantise, restore

MAPS = ("heatmaps", "levels", "repeated", "repeated_levels")  # what is not an array of one value a patch
NOT_DIAGNOSTIC = ("index", "constant", "nonfinite", "unconverged", "logits")


def write_chunk(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One finished part of a long computation."""
    size = sum(array.nbytes for array in arrays.values())
    with atomic_file(path, size) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def merge_chunks(
    paths: list[Path],
    path: Path,
    count: int,
    method: dict[str, Any],
    settings: dict[str, Any],
    *,
    quantised: bool = False,
) -> None:
    """Write chunks, in order, as one file of heatmaps; check that there are `count` patches, each exactly once.

    In the file: heatmaps float16 [n, 96, 96] (mean 1), index (of the patch in its split), logits, constant (the map
    is constant), nonfinite (it, or the logit, is not finite) and the method's diagnostics, all [n]; repeated, the
    heatmaps of the first r patches from other perturbation samples, [r, 96, 96]. What is in the chunks behind the
    first `count` patches has to be these first patches again. As attributes, in JSON: `method`, what is to be known
    of the method (name, title, description, stochastic, passes), and `settings`, what the heatmaps were made with.
    quantised: heatmaps and repeated are uint8, and levels and repeated_levels, float16 [n, 256], say what they stand
    for (see `levels.quantise`).
    """
    size = count * (PATCH**2 + 2 * LEVELS if quantised else 2 * PATCH**2)
    with atomic_file(path, size) as partial, h5py.File(partial, "w") as file:
        start = 0
        index: list[int] = []
        repeated: list[np.ndarray] = []
        for chunk_path in paths:
            with np.load(chunk_path, allow_pickle=False) as chunk:
                index += chunk["index"].tolist()
                once = max(0, min(len(index), count) - start)  # of the patches of this chunk, those for the first time
                arrays = dict(chunk)
            repeated.append(arrays["heatmaps"][once:].copy())  # a view would keep the whole chunk in memory
            if quantised:
                arrays["heatmaps"], arrays["levels"] = quantise(arrays["heatmaps"])
            for name, part in arrays.items():
                if start == 0:
                    file.create_dataset(name, (count, *part.shape[1:]), part.dtype)
                file[name][start : start + once] = part[:once]
            start = len(index)
        again = np.concatenate(repeated)
        if quantised:
            again, file["repeated_levels"] = quantise(again)
        file["repeated"] = again
        assert len(set(index[:count])) == count, f"chunks hold {len(set(index[:count]))} of {count} patches"
        assert index[count:] == index[: len(index) - count], "what is repeated are not the first patches"
        file.attrs["method"] = json.dumps(method, sort_keys=True)
        file.attrs["settings"] = json.dumps(settings, sort_keys=True)


@dataclass(frozen=True)
class Heatmaps:
    """What `explain` wrote for one method and network; heatmaps float16 [n, 96, 96] stay on disk until `read`.

    Those that are stored in 8 bits a pixel are read as float16, too.

    repeated: those of the first r patches from other perturbation samples, [r, 96, 96]; none where the method is not
    stochastic. method, settings: see `merge_chunks`.
    """

    path: Path
    index: np.ndarray
    constant: np.ndarray
    repeated: np.ndarray
    method: dict[str, Any]
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    offset: int  # of the heatmaps in the file, in bytes
    levels_offset: int | None  # of their levels, where they are stored in 8 bits

    @property
    def diagnostics(self) -> list[str]:
        """Names of the method's own diagnostics."""
        return [name for name in self.arrays if name not in NOT_DIAGNOSTIC]

    def read(self, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            return _float16(file, "heatmaps", "levels", part)

    def read_runs(self, runs: list[slice], out: np.ndarray) -> None:
        """Runs of patches, one after the other, into `out` [n, 96, 96]; past HDF5, whose many reads take long."""
        start = 0
        with open(self.path, "rb") as file:
            for run in runs:
                part = out[start : start + run.stop - run.start]
                if self.levels_offset is None:
                    _read_into(part, file, self.offset, run.start)
                else:
                    numbers, levels = np.empty(part.shape, np.uint8), np.empty((len(part), LEVELS), np.float16)
                    _read_into(numbers, file, self.offset, run.start)
                    _read_into(levels, file, self.levels_offset, run.start)
                    restore(numbers, levels, part)
                start += len(part)


def open_heatmaps(path: Path) -> Heatmaps:
    """Everything but the heatmaps themselves. Raises ValueError where the file is missing or not one of these."""
    try:
        with h5py.File(existing(path), "r") as file:
            arrays = {name: file[name][...] for name in file if name not in MAPS}
            method, settings = (json.loads(file.attrs[name]) for name in ("method", "settings"))
            repeated, offset = _float16(file, "repeated", "repeated_levels"), file["heatmaps"].id.get_offset()
            levels_offset = file["levels"].id.get_offset() if "levels" in file else None
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not a file of heatmaps ({error}); delete it and run dvc repro.") from error
    index, constant = arrays["index"], arrays["constant"].astype(bool)
    return Heatmaps(path, index, constant, repeated, method, settings, arrays, offset, levels_offset)


def _float16(file: h5py.File, name: str, levels: str, part: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Heatmaps of these patches, however they are stored."""
    return restore(file[name][part], file[levels][part]) if levels in file else file[name][part]


def _read_into(part: np.ndarray, file: BinaryIO, offset: int, start: int) -> None:
    """Fill an array with the rows from `start` on of one that begins at this offset."""
    file.seek(offset + start * part[0].nbytes)
    length = file.readinto(part.data)  # type: ignore[attr-defined]
    assert length == part.nbytes, "HDF5 opened a file that ends too early"
