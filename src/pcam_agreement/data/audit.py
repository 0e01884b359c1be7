"""What is in a data set: counts, checksums, patches that repeat, and patches and slides that two splits share."""

import hashlib
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from pcam_agreement.core.files import sha256
from pcam_agreement.data.pcam import CONTENTS, SPLITS, Split, read_split


def audit(splits: Mapping[str, Split]) -> dict:
    """Of each split the tumour share, the patches a slide and the repeated patches; what each two splits share.

    Patches are the same where all their bytes are. They are read once, in order; a hash of 16 bytes of each is kept.
    """
    hashes = {name: digests(split.patches) for name, split in splits.items()}
    slides = {name: split.meta["wsi"].value_counts() for name, split in splits.items()}
    shared = {
        f"{a}, {b}": {
            "patches": int(np.isin(hashes[b], hashes[a]).sum()),  # of b
            "slides": len(slides[a].index.intersection(slides[b].index)),
        }
        for a, b in combinations(splits, 2)
    }
    counts = {
        name: {
            "tumour_share": round(float(split.labels.mean()), 4),
            "fewest_of_a_slide": int(slides[name].min()),
            "median_of_a_slide": float(slides[name].median()),
            "most_of_a_slide": int(slides[name].max()),
            "repeated": len(hashes[name]) - len(np.unique(hashes[name])),
        }
        for name, split in splits.items()
    }
    return {"splits": counts, "shared": shared}


def digests(patches: np.ndarray) -> np.ndarray:
    """A hash of the bytes of each patch, [N] of 16 bytes each."""
    hashes = np.empty(len(patches), "S16")
    for number, patch in enumerate(patches):
        hashes[number] = hashlib.sha256(patch.data).digest()[:16]
    return hashes


def leaks(audited: dict) -> list[str]:
    """A sentence for every two splits that share patches or slides, from what `audit` returns."""
    sentences = []
    for pair, shared in audited["shared"].items():
        first, second = pair.split(", ")
        counted = " and ".join(f"{count} {name}" for name, count in shared.items() if count)
        if counted:
            sentences.append(f"{counted} of {second} are in {first} too: scores on {second} are too good.")
    return sentences


def totals(contents: dict) -> dict[str, int]:
    """The counts of a data set that the summary shows, from its contents.json; sums over (pairs of) splits."""
    audited = contents["audit"]
    return {
        "label_differs_from_meta": sum(split["label_differs_from_meta"] for split in contents["splits"].values()),
        "repeated_patches": sum(split["repeated"] for split in audited["splits"].values()),
        "patches_in_two_splits": sum(shared["patches"] for shared in audited["shared"].values()),
        "slides_in_two_splits": sum(shared["slides"] for shared in audited["shared"].values()),
    }


def describe(folder: Path) -> dict:
    """Check all splits; of each its counts, among them the labels that differ from meta, of each file size and SHA-256.

    Raises ValueError as `read_split` does.
    """
    splits = {}
    for name in SPLITS:
        split = read_split(folder, name)
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
    """Write contents.json beside the data, which identifies it for later stages."""
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n")
