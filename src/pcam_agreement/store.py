"""Predictions, heatmaps, agreement and histories to and from disk; same content, same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd


@contextmanager
def final(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` once all of it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def final_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place once all of it is written."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: dict) -> None:
    with final(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(_existing(path).read_text())


def write_arrays(path: Path, arrays: dict[str, np.ndarray], **attributes: str | float) -> None:
    """Arrays by name in one HDF5 file, with attributes."""
    with final(path) as partial, h5py.File(partial, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(_existing(path), "r") as file:
        return {name: file[name][...] for name in file}


def write_chunk(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One finished part of a long computation."""
    with final(path) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def merge_chunks(paths: list[Path], path: Path, count: int, settings: dict) -> None:
    """Chunks, in order, as one file of heatmaps; checks that there are `count` patches, each exactly once.

    In the file: heatmaps float16 [n, 96, 96] (mean 1), index (of the patch in its split), logits, constant (the map
    says nothing), nonfinite (it, or the logit, is not a number) and the method's diagnostics, all [n]; repeated, the
    heatmaps of the first r patches from other draws, [r, 96, 96]; the settings as the attribute `settings`. What is in
    the chunks behind the first `count` patches has to be these first patches again.
    """
    with final(path) as partial, h5py.File(partial, "w") as file:
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
        file.attrs["settings"] = json.dumps(settings, sort_keys=True)


@dataclass(frozen=True)
class Heatmaps:
    """What `explain` wrote for one method and network; heatmaps float16 [n, 96, 96] stay on disk until `read`.

    repeated: those of the first r patches from other draws, [r, 96, 96]; none where the method draws nothing.
    """

    path: Path
    index: np.ndarray
    constant: np.ndarray
    repeated: np.ndarray
    settings: dict
    arrays: dict[str, np.ndarray]
    offset: int  # of the heatmaps in the file, in bytes

    @property
    def diagnostics(self) -> list[str]:
        """Names of the method's own diagnostics."""
        return [name for name in self.arrays if name not in ("index", "constant", "nonfinite", "unconverged", "logits")]

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
    """Everything but the heatmaps themselves. Raises ValueError where the file is missing."""
    with h5py.File(_existing(path), "r") as file:
        arrays = {name: file[name][...] for name in file if name not in ("heatmaps", "repeated")}
        repeated, settings = file["repeated"][...], json.loads(file.attrs["settings"])
        offset = file["heatmaps"].id.get_offset()
    return Heatmaps(path, arrays["index"], arrays["constant"].astype(bool), repeated, settings, arrays, offset)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A long-form CSV with numbers of six digits."""
    with final(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")


def read_written(path: Path) -> pd.DataFrame:
    """A table as text, every number in the digits it has in the file."""
    return pd.read_csv(_existing(path), dtype=str, keep_default_na=False)


def read_history(folder: Path) -> pd.DataFrame:
    """What DVCLive logged: one row an epoch, one column a metric (train/loss, valid/auroc …)."""
    metrics = folder / "plots" / "metrics"
    columns = [
        pd.read_csv(path, sep="\t", index_col="step").iloc[:, 0].rename(str(path.relative_to(metrics).with_suffix("")))
        for path in sorted(metrics.rglob("*.tsv"))
    ]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame()


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path} is missing; run the stage that writes it (dvc repro) or dvc pull.")
    return path
