"""PatchCamelyon's own files: names, sizes, checksums and layout; a split as an array of patches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

PATCH = 96  # pixels a side
CENTRE = slice(32, 64)  # the label speaks of these rows and columns only
SPLITS = ("train", "valid", "test")
META_COLUMNS = ("coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
CONTENTS = "contents.json"


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


def file_name(split: str, kind: str) -> str:
    """The published name of one file; kind is x, y, mask (HDF5) or meta (CSV)."""
    return f"camelyonpatch_level_2_split_{split}_{kind}.{'csv' if kind == 'meta' else 'h5'}"


@dataclass(frozen=True)
class Split:
    """One split, checked: the patches stay on disk until they are indexed.

    patches: uint8 [N, 96, 96, 3], memory-mapped and read-only; labels: uint8 [N] of 0 and 1;
    meta: N rows of META_COLUMNS, perhaps of more; masks: uint8 [N, 96, 96], 0 where there is no tumour, or None.
    """

    name: str
    patches: np.ndarray
    labels: np.ndarray
    meta: pd.DataFrame
    masks: np.ndarray | None


def read(folder: Path, name: str) -> Split:
    """Open a split and check that its files belong together.

    Raises ValueError where a file is missing, foreign or truncated, where a label is not 0 or 1, or where the
    files do not have one entry for the same patch.
    """
    patches = _mapped(folder / file_name(name, "x"), "x", (PATCH, PATCH, 3))
    labels = _mapped(folder / file_name(name, "y"), "y", (1, 1, 1)).reshape(-1)
    wrong = np.setdiff1d(labels, [0, 1])
    if wrong.size:
        raise ValueError(
            f"{folder / file_name(name, 'y')}: expected labels 0 and 1, found {wrong[:5].tolist()}; fetch it again."
        )
    meta_path = folder / file_name(name, "meta")
    if not meta_path.exists():
        raise ValueError(f"{meta_path} is missing; run the fetch stage.")
    meta = pd.read_csv(meta_path, index_col=0)
    missing = [column for column in META_COLUMNS if column not in meta.columns]
    if missing:
        raise ValueError(f"{meta_path}: expected the columns {', '.join(META_COLUMNS)}; {', '.join(missing)} missing.")
    mask_path = folder / file_name(name, "mask")
    masks = _mapped(mask_path, "mask", (PATCH, PATCH, 1))[..., 0] if mask_path.exists() else None
    for what, there in (("labels", labels), ("rows of meta", meta), ("masks", masks)):
        if there is not None and len(there) != len(patches):
            raise ValueError(
                f"{folder}: the {name} split has {len(patches)} patches but {len(there)} {what}; fetch it again."
            )
    return Split(name, patches, labels, meta, masks)


def write(
    folder: Path,
    name: str,
    patches: Iterable[np.ndarray],
    labels: np.ndarray,
    meta: pd.DataFrame,
    masks: Iterable[np.ndarray] | None = None,
) -> None:
    """Write a split in PCam's layout: contiguous uint8, no filter, no time stamps (same input, same bytes).

    patches and masks: blocks of uint8 [n, 96, 96, 3] and [n, 96, 96] that add up to len(labels) entries.
    """
    n = len(labels)
    _write_blocks(folder / file_name(name, "x"), "x", (n, PATCH, PATCH, 3), patches)
    _write_blocks(folder / file_name(name, "y"), "y", (n, 1, 1, 1), [labels.astype(np.uint8).reshape(n, 1, 1, 1)])
    if masks is not None:
        _write_blocks(
            folder / file_name(name, "mask"), "mask", (n, PATCH, PATCH, 1), (block[..., None] for block in masks)
        )
    meta.to_csv(folder / file_name(name, "meta"))


def draw(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` patches (all, where there are fewer), each class in its share of the split."""
    count = min(count, len(labels))
    random = np.random.default_rng(seed)
    tumour, normal = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    tumours = round(count * len(tumour) / len(labels))
    chosen = [random.choice(tumour, tumours, replace=False), random.choice(normal, count - tumours, replace=False)]
    return np.sort(np.concatenate(chosen))


def describe(folder: Path) -> dict:
    """Check all splits and return what is in them: per split the counts, per file its size and SHA-256.

    Raises ValueError as `read` does. Where label and meta disagree, the number of patches is in the answer.
    """
    splits = {}
    for name in SPLITS:
        split = read(folder, name)
        splits[name] = {
            "patches": len(split.labels),
            "tumour": int(split.labels.sum()),
            "slides": int(split.meta["wsi"].nunique()),
            "label_differs_from_meta": int((split.labels != split.meta["center_tumor_patch"].astype(np.uint8)).sum()),
        }
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != CONTENTS
    }
    return {"splits": splits, "files": files}


def write_contents(folder: Path, contents: dict) -> None:
    """Leave the description beside the data; later stages take it as the identity of the data."""
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A memory map of a contiguous uint8 dataset [N, *shape]; a dataset in chunks is read whole."""
    if not path.exists():
        raise ValueError(f"{path} is missing; run the fetch stage.")
    try:
        with h5py.File(path, "r") as file:
            if key not in file:
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
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5 ({error}); fetch it again.") from error


def _write_blocks(path: Path, key: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(key, shape, np.uint8)
        start = 0
        for block in blocks:
            dataset[start : start + len(block)] = block
            start += len(block)
        assert start == shape[0], f"{start} of {shape[0]} entries were given for {path}"
