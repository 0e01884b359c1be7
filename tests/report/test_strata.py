"""Agreement by stratum, from numbers that are known."""

import numpy as np
import pytest

import made_up
from conftest import recipe
from pcam_agreement.report import strata


@pytest.fixture
def run(settings):
    return made_up.make({name: recipe(settings, name) for name in ("resnet34", "densenet121", "resnet34_untrained")})


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


def test_the_table_is_that_of_a_slow_count(run):
    table = run.tables["strata"].set_index(["method", "network_a", "network_b", "stratum"])
    right = {
        name: [bool((z >= 0) == y) for z, y in zip(own, run.labels, strict=True)] for name, own in run.logits.items()
    }
    results = run.results["lime"]
    a, b = "resnet34", "densenet121"  # the first pair
    for label, word in ((1, "tumour"), (0, "normal")):
        for count, name in ((2, "both"), (1, "one"), (0, "none")):
            patches = [
                n
                for n in range(len(run.labels))
                if run.labels[n] == label and right[a][n] + right[b][n] == count and np.isfinite(results["iou"][0, n])
            ]
            row = table.loc[("lime", a, b, f"{word}, {name} right")]
            assert row["patches"] == len(patches)
            assert row["slides"] == len({results["slides"][n] for n in patches})
            for column, key in (("iou", "iou"), ("kappa", "kappa"), ("null", "null_iou")):
                expected = np.mean([results[key][0, n] for n in patches]) if patches else np.nan
                assert row[column] == pytest.approx(expected, nan_ok=True)
    floor = table.loc[("lime", "all", "all", strata.OUTSIDE)].set_index("kind").loc["floor"]
    values = results["iou"][1:, (run.labels == 0) & run.outside]  # two pairs
    assert floor["iou"] == pytest.approx(np.nanmean(values))
    assert floor["patches"] == np.isfinite(values).any(0).sum()
    assert floor["iou_low"] < floor["iou"] < floor["iou_high"]


def test_a_stratum_without_a_patch_has_no_numbers(run):
    right = np.ones((3, len(run.labels)), bool)
    table = strata.strata_table(
        run.tables["agreement"].query("method == 'lime'"), run.results["lime"], right, right[0], 50, 0
    )
    empty = table[table["stratum"] == "tumour, none right"]
    assert len(empty) == 5  # three pairs; all of a kind, twice
    assert (empty[["patches", "slides"]] == 0).all(axis=None)
    assert empty[["iou", "kappa", "null", "iou_low", "iou_high"]].isna().all(axis=None)


def test_an_interval_is_that_of_the_slides_the_stratum_has(run):
    results = {**run.results["lime"], "slides": np.where(run.labels == 1, 0, run.results["lime"]["slides"] + 1)}
    right = np.ones((3, len(run.labels)), bool)
    pairs = run.tables["agreement"].query("method == 'lime'")
    table = strata.strata_table(pairs, results, right, right[0], 200, 0)
    of_one_slide, of_eight = (table[table["stratum"] == f"{label}, both right"] for label in ("tumour", "normal"))
    assert (of_one_slide["slides"] == 1).all()
    assert of_one_slide["iou_low"].isna().all()
    assert of_eight["iou_low"].notna().all()
