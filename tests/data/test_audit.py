"""The audit: what it counts is counted again by comparing every patch with every other."""

import shutil
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pcam_agreement.core.files import sha256
from pcam_agreement.data import audit
from pcam_agreement.data.pcam import CONTENTS, SPLITS, Split, file_name, read_split, write_split


def made(name: str, colours: list[int], slides: list[str]) -> Split:
    """Patches of one colour each."""
    patches = np.repeat(np.array(colours, np.uint8), 12).reshape(-1, 2, 2, 3)
    labels = np.arange(len(colours), dtype=np.uint8) % 2
    return Split(name, patches, labels, pd.DataFrame({"wsi": slides}), None)


@pytest.fixture
def splits() -> dict[str, Split]:
    return {
        "train": made("train", [1, 2, 2, 2, 0, 3], ["a", "a", "a", "b", "c", "c"]),
        "valid": made("valid", [4, 5, 0], ["d", "e", "e"]),
        "test": made("test", [2, 6, 7, 2], ["a", "f", "f", "b"]),
    }


def test_repeats_and_what_splits_share_are_those_of_a_slow_count(splits):
    audited = audit.audit(splits)
    for name, split in splits.items():
        repeated = sum(
            any((patch == earlier).all() for earlier in split.patches[:i]) for i, patch in enumerate(split.patches)
        )
        counts = [list(split.meta["wsi"]).count(slide) for slide in set(split.meta["wsi"])]
        assert audited["splits"][name] == {
            "tumour_share": pytest.approx(split.labels.mean(), abs=1e-4),
            "fewest_of_a_slide": min(counts),
            "median_of_a_slide": np.median(counts),
            "most_of_a_slide": max(counts),
            "repeated": repeated,
        }
    for a, b in combinations(splits, 2):
        first, second = splits[a], splits[b]
        assert audited["shared"][f"{a}, {b}"] == {
            "patches": sum(any((patch == earlier).all() for earlier in first.patches) for patch in second.patches),
            "slides": len(set(first.meta["wsi"]) & set(second.meta["wsi"])),
        }
    assert audit.leaks(audited) == [
        "1 patches of valid are in train too: scores on valid are too good.",
        "2 patches and 2 slides of test are in train too: scores on test are too good.",
    ]


def test_the_few_numbers_are_sums_over_splits_and_pairs_of_them(splits):
    contents = {"splits": {"train": {"label_differs_from_meta": 2}, "test": {"label_differs_from_meta": 1}}}
    assert audit.totals({**contents, "audit": audit.audit(splits)}) == {
        "label_differs_from_meta": 3,
        "repeated_patches": 3,
        "patches_in_two_splits": 3,
        "slides_in_two_splits": 2,
    }


def test_the_description_counts_what_is_there(dataset, tmp_path):
    folder = tmp_path / "patches"
    shutil.copytree(dataset, folder)
    split = read_split(dataset, "test")
    labels = split.labels.copy()
    labels[:2] ^= 1
    write_split(folder, "test", [split.patches], labels, split.meta)
    described = audit.describe(folder)
    assert described["splits"]["valid"] == {"patches": 33, "tumour": 17, "slides": 1, "label_differs_from_meta": 0}
    assert described["splits"]["test"] == {
        "patches": 33,
        "tumour": int(labels.sum()),
        "slides": 1,
        "label_differs_from_meta": 2,
    }
    assert len(described["files"]) == 12 and CONTENTS not in described["files"]
    y = folder / file_name("test", "y")
    assert described["files"][y.name] == {"bytes": y.stat().st_size, "sha256": sha256(y)}


def test_splits_that_are_apart_give_no_warning(dataset):
    audited = audit.audit({name: read_split(dataset, name) for name in SPLITS})
    assert audit.leaks(audited) == []
    assert {shared["slides"] for shared in audited["shared"].values()} == {0}
