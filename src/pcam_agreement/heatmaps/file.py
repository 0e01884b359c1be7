"""The heatmap file, the contract between attribution and agreement: heatmaps, and what is to be known of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pcam_agreement.core.files import atomic_file, existing
from pcam_agreement.core.patch import PATCH

NOT_DIAGNOSTIC = ("index", "constant", "nonfinite", "unconverged", "logits")


def write_chunk(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One finished part of a long computation."""
    size = sum(array.nbytes for array in arrays.values())
    with atomic_file(path, size) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def merge_chunks(paths: list[Path], path: Path, count: int, method: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write chunks, in order, as one file of heatmaps; check that there are `count` patches, each exactly once.

    In the file: heatmaps float16 [n, 96, 96] (mean 1), index (of the patch in its split), logits, constant (the map
    is constant), nonfinite (it, or the logit, is not finite) and the method's diagnostics, all [n]; repeated, the
    heatmaps of the first r patches from other perturbation samples, [r, 96, 96]. What is in the chunks behind the
    first `count` patches has to be these first patches again. As attributes, in JSON: `method`, what is to be known
    of the method (name, title, description, stochastic, passes), and `settings`, what the heatmaps were made with.
    """
    with atomic_file(path, count * PATCH**2 * 2) as partial, h5py.File(partial, "w") as file:
        start = 0
        index: list[int] = []
        repeated: list[np.ndarray] = []
        for chunk_path in paths:
            with np.load(chunk_path, allow_pickle=False) as chunk:
                index += chunk["index"].tolist()
                once = max(0, min(len(index), count) - start)  # of the patches of this chunk, those for the first time
                for name in chunk.files:
                    part = chunk[name]
                    if start == 0:
                        file.create_dataset(name, (count, *part.shape[1:]), part.dtype)
                    file[name][start : start + once] = part[:once]
                    if name == "heatmaps":
                        repeated.append(part[once:].copy())  # a view would keep the whole chunk in memory
                start = len(index)
        file["repeated"] = np.concatenate(repeated)
        assert len(set(index[:count])) == count, f"chunks hold {len(set(index[:count]))} of {count} patches"
        assert index[count:] == index[: len(index) - count], "what is repeated are not the first patches"
        file.attrs["method"] = json.dumps(method, sort_keys=True)
        file.attrs["settings"] = json.dumps(settings, sort_keys=True)


@dataclass(frozen=True)
class Heatmaps:
    """What `explain` wrote for one method and network; heatmaps float16 [n, 96, 96] stay on disk until `read`.

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

    @property
    def diagnostics(self) -> list[str]:
        """Names of the method's own diagnostics."""
        return [name for name in self.arrays if name not in NOT_DIAGNOSTIC]

    def read(self, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            return file["heatmaps"][part]

    def read_runs(self, runs: list[slice], out: np.ndarray) -> None:
        """Runs of patches, one after the other, into `out` [n, 96, 96]; past HDF5, whose many reads take long."""
        start = 0
        with open(self.path, "rb") as file:
            for run in runs:
                part = out[start : start + run.stop - run.start]
                file.seek(self.offset + run.start * out[0].nbytes)
                length = file.readinto(part.data)
                assert length == part.nbytes, "HDF5 opened a file that ends too early"
                start += len(part)


def open_heatmaps(path: Path) -> Heatmaps:
    """Everything but the heatmaps themselves. Raises ValueError where the file is missing or not one of these."""
    try:
        with h5py.File(existing(path), "r") as file:
            arrays = {name: file[name][...] for name in file if name not in ("heatmaps", "repeated")}
            method, settings = (json.loads(file.attrs[name]) for name in ("method", "settings"))
            repeated, offset = file["repeated"][...], file["heatmaps"].id.get_offset()
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not a file of heatmaps ({error}); delete it and run dvc repro.") from error
    return Heatmaps(path, arrays["index"], arrays["constant"].astype(bool), repeated, method, settings, arrays, offset)
