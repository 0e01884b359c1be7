"""The written answer says what the numbers say, and nothing where there is none."""

import re
from math import ceil

import pytest

from pcam_agreement.report.answer import recipe_word
from report_runs import RECIPES, made, run  # noqa: F401  fixtures


def test_the_page_begins_with_the_synthetic_tissue_and_a_sentence_a_method(run):  # noqa: F811
    lines = run.answer.splitlines()
    assert lines[0].startswith("**The tissue is synthetic**")
    assert "![Shares](../plots/figures/shares.png)" in lines
    for method, numbers in run.summary["agreement"].items():
        (sentence,) = re.findall(rf"\*\*{method.upper()}\*\*: (.*?) R = ", run.said)
        for share, words in (
            ("common", "two architectures share {}"),
            ("recipe", "{} belongs to the"),
            ("training", "{} to the single"),
        ):
            value, low, high = (100 * numbers[key] for key in (share, f"{share}_low", f"{share}_high"))
            assert words.format(f"{round(value)} % ({low:.0f} to {high:.0f})") in sentence
        assert f"{ceil(numbers['trainings_needed'])} trainings (" in sentence
        assert ("the method's noise" in sentence) == (method == "lime")
        assert f"R = {numbers['R']:.2f} ({numbers['R_low']:.2f} to {numbers['R_high']:.2f})" in run.said


def test_the_page_says_what_it_rests_on_and_is_short(run):  # noqa: F811
    aurocs = [value for name, value in run.summary["auroc"].items() if "untrained" not in name]
    assert f"test AUROC {min(aurocs):.3f} to {max(aurocs):.3f}" in run.said
    assert "3 architectures, 9 trained networks" in run.said
    assert "20 test patches of 6 slides" in run.said
    assert "Intervals cover other trainings of these architectures and other slides." in run.said
    (lime,) = re.findall(r"\*\*LIME\*\*: .*? R = ", run.said)
    assert len(run.answer.split()) + len(lime.split()) <= 450  # had it three methods


def test_patches_without_slides_are_not_said_to_be_of_as_many(made):  # noqa: F811
    said = made(slides=21).said
    assert "20 test patches, each counted as a slide; masks" in said
    assert "Every patch counts as a slide; where several are of one, intervals are too narrow." in said


def test_the_page_says_what_it_cannot(run):  # noqa: F811
    limits = run.said.split("## What this cannot say")[1]
    assert "The splits leak**: 9 patches and 2 slides are in two of them" in limits
    assert "Whether networks that perform alike look alike: 3 architectures, of 5 needed." in limits
    assert "there are only 6" in limits
    assert (
        "Anything from heatmaps that are constant (SALIENCY 1, LIME 1) or unconverged (of trained networks' 180 and "
        "untrained ones' 60: SALIENCY 36 and 12, LIME 36 and 12)"
    ) in limits


ODD = {  # of what a run is made, and what is said of it
    "single networks": (
        {"trainings": (1,)},
        [
            "are undefined: no recipe has two trainings.",
            "others of the same architectures may lie outside",
            "on different",
        ],
    ),
    "two trainings": (
        {"trainings": (1, 2)},
        [
            "Intervals are over slides: another training may lie outside them.",
            "unconverged (of trained networks' 80: SALIENCY 16)",
        ],
    ),
    "one recipe": ({"recipes": RECIPES[:1], "trainings": (1, 2)}, ["are undefined: there is one recipe only."]),
    "one slide": ({"slides": 1}, ["no label has patches of three slides", "All patches are of one slide"]),
    "four patches": ({"patches": 5}, ["nothing is said from 4 patches; 5 are the least."]),
    "constant maps": ({"silent": "all"}, ["are undefined: no heatmap depends on the patch."]),
    "untrained networks share nothing": (
        {"weights": {"common": 1.0, "recipe": 0.7, "training": 1.0, "input": 0.0}},
        ["untrained networks see as well", "two architectures share", "a network's with itself: 1"],
    ),
    "trainings share nothing": (
        {"weights": {"common": 0.0, "recipe": 0.0, "training": 1.0, "input": 0.0}},
        ["R is undefined:", "The common share, what two architectures share, is a mean over pairs."],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_what_is_undefined_is_said_with_its_reason(made, name):  # noqa: F811
    of_what, sentences = ODD[name]
    report = made(**of_what)
    for sentence in sentences:
        assert sentence in report.said
    assert "nan" not in report.said
    assert "inf" not in report.said
    shares = report.table("shares")
    assert (shares["reason"].notna() | shares["low"].notna()).all(), "a share without an interval says why"
    for path in report.figures.iterdir():
        assert path.stat().st_size > 2000


def test_a_recipe_is_called_an_architecture_where_nothing_else_differs():
    a, b = {"architecture": "a", "lr": 1}, {"architecture": "b", "lr": 1}
    assert recipe_word({"a": a, "b": b}) == "architecture"
    assert recipe_word({"a": a, "b": {**b, "lr": 2}}) == "recipe"
    assert recipe_word({"a": a, "c": a}) == recipe_word({"a": a}) == "recipe"
