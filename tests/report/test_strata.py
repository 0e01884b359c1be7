"""Agreement by stratum, from numbers that are known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pcam_agreement.report import strata

NAMES = ("a-1", "a-2", "b-1", "b-untrained")
PAIRS = pd.DataFrame(
    [
        ("lime", a, b, kind)
        for (a, b), kind in zip(combinations(NAMES, 2), ["within", "between", "untrained"] * 2, strict=True)
    ],
    columns=["method", "network_a", "network_b", "kind"],
)


@pytest.fixture
def results():
    """Agreement of six pairs on 48 patches of 8 slides, some of it undefined."""
    random = np.random.default_rng(0)
    iou, null = random.uniform(0.3, 0.4, (6, 48)), random.uniform(0.1, 0.2, (6, 48))
    iou[random.random(iou.shape) < 0.1] = np.nan
    return {"iou": iou, "null_iou": null, "labels": random.integers(0, 2, 48), "slides": np.arange(48) % 8}


def test_each_patch_is_in_one_stratum_of_its_label_and_outcome():
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    right = np.array([[1, 1, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 1]], bool)
    outside = np.array([1, 0, 0, 1, 0, 1, 0], bool)
    found = strata.strata(labels, right, outside)
    assert tuple(found) == strata.STRATA
    where = {name: np.flatnonzero(inside[0]).tolist() for name, inside in found.items()}
    assert where == {
        "tumour, both right": [0],
        "tumour, one right": [1],
        "tumour, none right": [2],
        "normal, both right": [3, 6],
        "normal, one right": [4],
        "normal, none right": [5],
        "normal, tumour outside the centre": [3, 5],
    }


def test_the_table_is_that_of_a_slow_count(results):
    right = np.random.default_rng(1).random((4, 48)) < 0.7
    table = strata.strata_table(PAIRS, results, right, right[0], 200, 0).set_index(["kind", "stratum"])
    pairs = list(combinations(range(4), 2))
    for label, word in ((1, "tumour"), (0, "normal")):
        for count, name in ((2, "both"), (1, "one"), (0, "none")):
            cells = [
                (row, n)
                for row in (1, 4)  # the pairs of two recipes
                for n in range(48)
                if results["labels"][n] == label
                and right[pairs[row][0], n] + 0 + right[pairs[row][1], n] == count
                and np.isfinite(results["iou"][row, n])
            ]
            found = table.loc[("between", f"{word}, {name} right")]
            assert found["patches"] == len({n for _, n in cells})
            if found["patches"] >= strata.FEW:
                excess = np.mean([results["iou"][cell] - results["null_iou"][cell] for cell in cells])
                assert found["excess"] == pytest.approx(excess)
                assert found["excess_low"] < excess < found["excess_high"]


def test_of_fewer_than_five_patches_there_is_their_number_alone(results):
    right = np.ones((4, 48), bool)
    right[:2, np.flatnonzero(results["labels"] == 1)[:4]] = False
    table = strata.strata_table(PAIRS, results, right, np.zeros(48, bool), 50, 0).set_index(["kind", "stratum"])
    few = table.loc[("within", "tumour, none right")]
    assert 0 < few["patches"] < 5
    empty = table.loc[("within", "normal, none right")]
    assert empty["patches"] == 0
    for row in (few, empty):
        assert row[["iou", "null", "excess", "excess_low", "excess_high"]].isna().all()


def test_an_interval_is_that_of_the_slides_the_stratum_has(results):
    results["slides"] = np.where(results["labels"] == 1, 0, results["slides"] + 1)
    right = np.ones((4, 48), bool)
    table = strata.strata_table(PAIRS, results, right, right[0], 200, 0)
    of_one_slide, of_eight = (table[table["stratum"] == f"{label}, both right"] for label in ("tumour", "normal"))
    assert (of_one_slide["slides"] == 1).all()
    assert of_one_slide["excess_low"].isna().all()
    assert of_eight["excess_low"].notna().all()
