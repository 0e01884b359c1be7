"""PatchCamelyon's file format: names and layout of its files; a split as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pcam_agreement.core.files import atomic_file
from pcam_agreement.core.patch import PATCH

SPLITS = ("train", "valid", "test")
META_COLUMNS = ("coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
CONTENTS = "contents.json"


def file_name(split: str, kind: str) -> str:
    """The published name of one file; kind is x, y, mask (HDF5) or meta (CSV)."""
    return f"camelyonpatch_level_2_split_{split}_{kind}.{'csv' if kind == 'meta' else 'h5'}"


@dataclass(frozen=True)
class Split:
    """One split, checked: the patches stay on disk until they are indexed.

    patches: uint8 [N, 96, 96, 3], memory-mapped and read-only; labels: uint8 [N] of 0 and 1; meta: N rows with at least
    META_COLUMNS; masks: uint8 [N, 96, 96], 0 where there is no tumour, or None.
    """

    name: str
    patches: np.ndarray
    labels: np.ndarray
    meta: pd.DataFrame
    masks: np.ndarray | None


def read_split(folder: Path, name: str) -> Split:
    """Open a split and check that its files belong together.

    Raises ValueError with the file where it is missing, truncated or in another format, where a value is none that
    belongs there, and where two files do not have the same number of entries.
    """
    patches = _mapped(folder / file_name(name, "x"), "x", (PATCH, PATCH, 3))
    labels = _mapped(folder / file_name(name, "y"), "y", (1, 1, 1)).reshape(-1)
    unknown = np.setdiff1d(labels, [0, 1])
    if unknown.size:
        raise ValueError(
            f"{folder / file_name(name, 'y')}: expected labels 0 and 1, found {unknown[:5].tolist()}; fetch it again."
        )
    meta = _read_meta(folder / file_name(name, "meta"))
    mask_path = folder / file_name(name, "mask")
    masks = _mapped(mask_path, "mask", (PATCH, PATCH, 1))[..., 0] if mask_path.exists() else None
    for kind, entries in (("labels", labels), ("rows of meta", meta), ("masks", masks)):
        if entries is not None and len(entries) != len(patches):
            raise ValueError(
                f"{folder}: the {name} split has {len(patches)} patches but {len(entries)} {kind}; fetch it again."
            )
    return Split(name, patches, labels, meta, masks)


def write_split(
    folder: Path,
    name: str,
    patches: Iterable[np.ndarray],
    labels: np.ndarray,
    meta: pd.DataFrame,
    masks: Iterable[np.ndarray] | None = None,
) -> None:
    """Write a split in PCam's layout: contiguous uint8, no filter, no time stamps (same input, same bytes).

    patches, masks: blocks of uint8 [n, 96, 96, 3] and [n, 96, 96] that add up to len(labels) entries.
    """
    n = len(labels)
    _write_blocks(folder / file_name(name, "x"), "x", (n, PATCH, PATCH, 3), patches)
    _write_blocks(folder / file_name(name, "y"), "y", (n, 1, 1, 1), [labels.astype(np.uint8).reshape(n, 1, 1, 1)])
    if masks is not None:
        _write_blocks(
            folder / file_name(name, "mask"), "mask", (n, PATCH, PATCH, 1), (block[..., None] for block in masks)
        )
    with atomic_file(folder / file_name(name, "meta")) as partial:
        meta.to_csv(partial)


def stratified_sample(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` patches (all, where there are fewer), each class in its share of the split."""
    count = min(count, len(labels))
    random = np.random.default_rng(seed)
    tumour, normal = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    tumours = round(count * len(tumour) / len(labels))
    chosen = [random.choice(tumour, tumours, replace=False), random.choice(normal, count - tumours, replace=False)]
    return np.sort(np.concatenate(chosen))


def _read_meta(path: Path) -> pd.DataFrame:
    """The rows of a meta file; ValueError where it is none or a value is missing or of another kind."""
    if not path.exists():
        raise ValueError(f"{path} is missing; run the fetch stage.")
    try:
        meta = pd.read_csv(path, index_col=0, encoding="utf-8")
    except ValueError as error:  # of pandas, or no UTF-8
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error}); fetch it again or mend it.") from error
    missing = [column for column in META_COLUMNS if column not in meta.columns]
    if missing:
        raise ValueError(f"{path}: expected the columns {', '.join(META_COLUMNS)}; {', '.join(missing)} missing.")
    for column in ("tumor_patch", "center_tumor_patch"):
        if meta[column].dtype != bool:
            row = int((~meta[column].astype(str).str.lower().isin(["true", "false"])).argmax())
            value = str(meta[column].iloc[row])
            raise ValueError(f"{path}: expected True or False in {column}, found {value} in row {row}; mend the file.")
    if meta["wsi"].isna().any():
        row = int(meta["wsi"].isna().argmax())
        raise ValueError(f"{path}: expected the name of a slide in every row of wsi, found none in row {row}; add it.")
    return meta


def _mapped(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A memory map of a contiguous uint8 dataset [N, *shape]; a dataset in chunks is read whole."""
    if not path.exists():
        raise ValueError(f"{path} is missing; run the fetch stage.")
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key), h5py.Dataset):
                raise ValueError(f"{path}: expected a dataset '{key}', found {list(file)}; it is not a PCam file.")
            dataset = file[key]
            if dataset.dtype != np.uint8 or dataset.ndim != len(shape) + 1 or dataset.shape[1:] != shape:
                raise ValueError(
                    f"{path}: expected uint8 [N, {', '.join(map(str, shape))}] in '{key}', "
                    f"found {dataset.dtype} {list(dataset.shape)}; it is not a PCam file."
                )
            offset = dataset.id.get_offset()
            if offset is None:
                return dataset[...]
            size, length = path.stat().st_size, int(np.prod(dataset.shape))
            if offset + length > size:
                raise ValueError(f"{path}: expected at least {offset + length} bytes, found {size}; fetch it again.")
            return np.memmap(path, np.uint8, "r", offset, dataset.shape)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as HDF5 ({error}); fetch it again.") from error


def _write_blocks(path: Path, key: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    with atomic_file(path, int(np.prod(shape))) as partial, h5py.File(partial, "w") as file:
        dataset = file.create_dataset(key, shape, np.uint8)
        start = 0
        for block in blocks:
            dataset[start : start + len(block)] = block
            start += len(block)
    assert start == shape[0], f"{start} of {shape[0]} entries were given for {path}"
