"""The written answer says what the numbers say."""

import copy
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from pcam_agreement.answer import answer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run():
    pairs = pd.read_csv(ROOT / "plots" / "agreement.csv")
    pairs["undefined"] = pairs["undefined"].fillna("")
    return json.loads((ROOT / "metrics" / "summary.json").read_text()), pairs


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_committed_page_is_that_of_the_committed_numbers(run):
    assert (ROOT / "metrics" / "answer.md").read_text() == answer(*run, 0.25)


def test_every_decimal_number_on_the_page_is_in_the_summary(run):
    summary, pairs = run

    def numbers(tree):
        for value in tree.values() if isinstance(tree, dict) else [tree]:
            yield from numbers(value) if isinstance(value, dict) else [value]

    known = {f"{value:.{digits}f}" for value in numbers(summary) if isinstance(value, float) for digits in (2, 3)}
    found = re.findall(r"-?\d+\.\d+", one_line(answer(summary, pairs, 0.25)))
    assert len(found) > 15
    assert set(found) <= known


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.1, 0.5, "it is not certain that they share anything about the patch"),
        (0.2, 0.8, "something about the patch, but less than two trainings of one architecture"),
        (0.5, 1.2, "perhaps as much as two trainings of one architecture"),
        (None, None, "how certain, the slides cannot say"),
    ],
)
def test_an_interval_decides_what_is_said(run, low, high, sentence):
    summary, pairs = copy.deepcopy(run)
    summary["agreement"]["lime"].update(normalised_low=low, normalised_high=high)
    assert sentence in one_line(answer(summary, pairs, 0.25)).split("**lime**")[1]


@pytest.mark.parametrize(
    ("uninformative", "undefined", "sentence"),
    [
        (0, 0, "the heatmaps of 4 of 4 trained networks change the score sooner"),
        (3, 0, "Those of 3 do not, or not certainly: they are uninformative, and that they agree means nothing"),
        (0, 4, "the heatmaps of 0 of 4 trained networks change"),
        (0, 4, "For 4 it is undefined."),
    ],
)
def test_heatmaps_that_do_not_beat_a_random_place_are_named_uninformative(run, uninformative, undefined, sentence):
    summary, pairs = copy.deepcopy(run)
    summary["faithfulness"] = {"lime": {"networks": 4, "uninformative": uninformative, "undefined": undefined}}
    text = one_line(answer(summary, pairs, 0.25))
    assert sentence in text.split("**lime**, faithfulness")[1]
    assert ("means nothing" in text) == (uninformative > 0)


def test_what_is_undefined_is_said_to_be(run):
    summary, pairs = copy.deepcopy(run)
    nothing = dict.fromkeys(("normalised", "normalised_low", "normalised_high", "null", "ceiling", "iou_low"))
    summary["agreement"]["lime"].update(nothing)
    summary["explained_slides"] = 1
    text = one_line(answer(summary, pairs, 0.25))
    assert "between null and ceiling is undefined" in text
    assert "All patches are of one slide: there is no null and no interval." in text
    summary["agreement"]["lime"]["iou"] = None
    assert "no pair of trained networks" in answer(summary, pairs, 0.25)
