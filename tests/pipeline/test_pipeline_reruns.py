"""What reruns in a finished pipeline after a change: what depends on it, and nothing else."""

import pandas as pd
import pytest

from repository import stages

pytestmark = pytest.mark.slow

METHOD = '''
"""The absolute logit everywhere in the centre: a method of a few lines."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradients
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.core.settings import Positive
from pcam_agreement.inference.batch import Batch

TITLE = "Scaled gradient"
DESCRIPTION = "the gradient times a number"
STOCHASTIC = False


class Settings(Method):
    factor: Positive


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    return settings.factor * gradients(score, patches, batch), {}
'''


def test_a_recipe_is_a_block_and_a_method_a_file_and_a_block_and_each_reruns_its_own_stages_and_what_compares(finished):
    r = finished
    path = r.path / "src" / "pcam_agreement" / "attribution" / "methods" / "scaled_gradient.py"
    path.write_text(METHOD)
    assert r.concerned() == {"check"}
    r.change("recipes", value=["one", "two", "three"])
    r.change("network", "three", value={"architecture": "shufflenet_v2_x0_5", "epochs": 1})  # never named in the code
    recipe = stages("features", "train", "explain", "faithfulness", recipes=("three",))
    recipe |= stages("check", "compare", "compare_methods", "report", "atlas")
    assert r.concerned() == recipe
    r.change("method", "scaled_gradient", value={"reduce": "max_of_absolute", "factor": 2.0})
    r.change("methods", value=["saliency", "lime", "scaled_gradient"])
    new = {"methods": ("scaled_gradient",), "recipes": ("one", "two", "three")}
    assert r.make() == recipe | stages("explain", "faithfulness", "compare", **new)
    table = pd.read_csv(r.path / "plots" / "methods.csv")
    row = table[(table["method_a"] == "saliency") & (table["method_b"] == "scaled_gradient")].iloc[0]
    assert row["iou"] == pytest.approx(1)  # a factor changes no mask
    assert "Scaled gradient" in (r.path / "metrics" / "answer.md").read_text()
    path.write_text(METHOD + "\n# a comment\n")
    assert r.concerned() == {"check"} | stages("explain", **new)
    path.unlink()
    r.reset()


def test_a_change_reruns_what_depends_on_it_and_nothing_else(finished):
    r = finished
    r.change("methods", value=["lime"])
    dropped = {"check", "compare_methods", "report", "atlas"}
    assert r.concerned() == dropped
    changed = stages("features", "train", "explain", "faithfulness", recipes=("two",), methods=("lime",))
    r.change("network", "two", "lr", value=1e-4)
    assert r.make() == dropped | changed | {"compare@lime"}
    r.run("git", "checkout", "-q", "params.yaml")
    assert r.make() <= {"check", "report", "atlas"}  # old values again: all else comes from the run-cache
    module = r.path / "src" / "pcam_agreement" / "pipeline" / "compare.py"
    module.write_text(module.read_text() + "print('this copy')\n")
    assert r.repro() == stages("compare")
    assert "this copy" in r.said  # not the code of an installed package
    r.reset()
