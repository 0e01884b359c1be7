"""The written answer says what the numbers say."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import made_up
from conftest import recipe
from pcam_agreement.data import audit
from pcam_agreement.report.answer import answer
from pcam_agreement.report.faithfulness import count_verdicts
from pcam_agreement.report.summary import summary

ROOT = Path(__file__).parents[2]
TITLES = {"saliency": "Saliency", "integrated_gradients": "Integrated gradients", "lime": "LIME"}


@pytest.fixture
def run(settings):
    names = ("resnet34", "densenet121", "alexnet", "resnet34_twin", "inception_v3_untrained")
    made = made_up.make({name: recipe(settings, name) for name in names})
    tables = made.tables
    faithful = count_verdicts(tables["faithfulness"])
    agreement, heatmaps, data = tables["agreement"], tables["heatmaps"], audit.totals(made_up.CONTENTS)
    few = summary(made.found, agreement, heatmaps, made.estimates, made.tests, faithful, 1 / 7, data)
    return few, tables["agreement"], tables["strata"], tables["curve"]


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_committed_page_is_that_of_the_committed_numbers():
    tables = [pd.read_csv(ROOT / "plots" / f"{name}.csv") for name in ("agreement", "strata", "curve")]
    tables[0]["undefined"] = tables[0]["undefined"].fillna("")
    few = json.loads((ROOT / "metrics" / "summary.json").read_text())
    assert (ROOT / "metrics" / "answer.md").read_text() == answer(few, *tables, 0.25, TITLES, True)


def test_every_number_on_the_page_is_in_the_summary_or_a_table(run):
    few, _, strata, curve = run

    def numbers(tree):
        for value in tree.values():
            yield from numbers(value) if isinstance(value, dict) else [value]

    values = [*numbers(few), *strata["iou"], *curve.groupby(["method", "kind", "fraction"])["kappa"].mean()]
    known = {f"{value:.{digits}f}" for value in values if isinstance(value, float) for digits in (2, 3)}
    found = re.findall(r"-?\d+\.\d+", one_line(answer(*run, 0.25, TITLES, True)))
    assert len(found) > 25
    assert set(found) <= known


def test_the_page_counts_the_pairs_whose_bands_stand_out(run):
    pairs = run[1]
    own = (pairs["method"] == "lime") & (pairs["kind"] == "trained")
    pairs.loc[own, ["excess_band_low", "above_floor_band_low"]] = [[0.1, 0.1]] * 3 + [[0.1, -0.1], [-0.1, -0.1]]
    said = one_line(answer(*run, 0.25, TITLES, True)).split("**LIME**")[1]
    assert "4 of 5 pairs agree more than their null, and 3 exceed it by more than pairs with an untrained" in said


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.1, 0.5, "it is not certain that the agreement depends on the patch"),
        (0.2, 0.8, "it depends on the patch, but is lower than that of two trainings of one architecture"),
        (0.5, 1.2, "may be as high as that of two trainings of one architecture"),
        (None, None, "these slides give no interval"),
    ],
)
def test_an_interval_decides_what_is_said(run, low, high, sentence):
    few, *tables = copy.deepcopy(run)
    few["agreement"]["lime"].update(normalised_low=low, normalised_high=high)
    assert sentence in one_line(answer(few, *tables, 0.25, TITLES, True)).split("**LIME**")[1]


@pytest.mark.parametrize(
    ("uninformative", "undefined", "sentence"),
    [
        (0, 0, "at random places for 4 of the 4 trained networks that were tested"),
        (
            3,
            0,
            "For 3 it does not, or not certainly: their heatmaps are uninformative, and it is not shown that",
        ),
        (0, 4, "at random places for 0 of the 4 trained networks that were tested"),
        (0, 4, "For 4 it is undefined."),
    ],
)
def test_heatmaps_that_do_not_beat_a_random_place_are_named_uninformative(run, uninformative, undefined, sentence):
    few, *tables = copy.deepcopy(run)
    for method in few["faithfulness"]:
        few["faithfulness"][method] = {"networks": 4, "uninformative": uninformative, "undefined": undefined}
    text = one_line(answer(few, *tables, 0.25, TITLES, True))
    assert sentence in text.split("**LIME**")[1]
    assert ("it is not shown" in text) == (uninformative > 0)


def test_the_page_begins_with_whether_the_tissue_is_synthetic(run):
    assert answer(*run, 0.25, TITLES, True).splitlines()[2].startswith("**The tissue is synthetic**")
    assert "synthetic" not in answer(*run, 0.25, TITLES, False)


def test_what_is_undefined_is_said_to_be(run):
    few, *tables = copy.deepcopy(run)
    nothing = dict.fromkeys(("normalised", "normalised_low", "normalised_high", "null", "ceiling", "iou_low"))
    few["agreement"]["lime"].update(nothing)
    few["explained_slides"] = 1
    text = one_line(answer(few, *tables, 0.25, TITLES, True))
    assert "Normalised agreement A is undefined" in text
    assert "All patches are of one slide: there is no null and no interval." in text
    assert "slide of its own" not in text
    few["agreement"]["lime"]["iou"] = None
    assert "there are no two trained networks" in answer(few, *tables, 0.25, TITLES, True)


def test_what_holds_with_some_methods_only_is_said_of_those(run):
    few, pairs, *tables = copy.deepcopy(run)
    pair = f"{pairs['network_a'][0]} ~ {pairs['network_b'][0]}"
    pairs.loc[0, ["kind", "normalised", "undefined"]] = ["trained", np.nan, "no patch"]
    few["auroc_gap"]["lime"].update(architectures=8, critical_rho=0.4)
    few["auroc_gap"]["saliency"].update(architectures=8, critical_rho=None, rho=None)
    text = one_line(answer(few, pairs, *tables, 0.25, TITLES, True))
    assert f"A is undefined for {pair} with Saliency: no patch." in text
    assert "could be significant with Saliency: 8 architectures perform or agree all alike." in text
    assert "With LIME, only a rank correlation beyond ±0.40 is significant." in text


def test_patches_without_known_slides_are_said_to_count_as_slides(run):
    few, *tables = copy.deepcopy(run)
    few["explained_slides"] = few["explained_patches"]
    assert "Every patch counts as a slide of its own" in one_line(answer(few, *tables, 0.25, TITLES, True))


def test_splits_that_share_patches_or_slides_are_said_to_leak(run):
    few, *tables = copy.deepcopy(run)
    assert "The splits leak**: 9 patches and 2 slides are in two of them" in one_line(
        answer(few, *tables, 0.25, TITLES, True)
    )
    few["data"]["patches_in_two_splits"] = 0
    assert "The splits leak**: 2 slides are in two of them" in one_line(answer(few, *tables, 0.25, TITLES, True))
    few["data"]["slides_in_two_splits"] = 0
    assert "leak" not in answer(few, *tables, 0.25, TITLES, True)
