"""What reruns in a finished pipeline after a change: what depends on it, and nothing else."""

import pandas as pd
import pytest

from repository import stages

pytestmark = pytest.mark.slow


def test_a_recipe_is_a_block_and_reruns_its_own_stages_and_what_compares(finished):
    r = finished
    r.change("recipes", value=["one", "two", "three"])
    r.change("network", "three", value={"architecture": "shufflenet_v2_x0_5", "epochs": 1})  # never named in the code
    added = stages("features", "train", "explain", "faithfulness", recipes=("three",))
    assert r.make() == {"check"} | added | stages("compare", "compare_methods", "report", "atlas")
    r.reset()


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


def test_a_method_is_a_file_and_a_block_and_reruns_its_own_stages_and_what_compares(finished):
    r = finished
    path = r.path / "src" / "pcam_agreement" / "attribution" / "methods" / "scaled_gradient.py"
    before = r.concerned()
    path.write_text(METHOD)
    assert r.concerned() - before == {"check"}
    r.change("method", "scaled_gradient", value={"reduce": "max_of_absolute", "factor": 2.0})
    r.change("methods", value=["saliency", "lime", "scaled_gradient"])
    added = stages("explain", "faithfulness", "compare", methods=("scaled_gradient",))
    assert r.make() == {"check", "compare_methods", "report", "atlas"} | added
    table = pd.read_csv(r.path / "plots" / "methods.csv")
    row = table[(table["method_a"] == "saliency") & (table["method_b"] == "scaled_gradient")].iloc[0]
    assert row["iou"] == pytest.approx(1)  # a factor changes no mask
    assert "Scaled gradient" in (r.path / "metrics" / "answer.md").read_text()
    path.write_text(METHOD + "\n# a comment\n")
    assert r.concerned() == {"check"} | stages("explain", methods=("scaled_gradient",))
    path.unlink()
    r.reset()


def test_a_change_reruns_what_depends_on_it_and_nothing_else(finished):
    r = finished

    def after(*keys: str, value: object) -> set[str]:
        r.change(*keys, value=value)
        return r.make() - {"check"}

    assert after("methods", value=["lime"]) == {"compare_methods", "report", "atlas"}  # a method dropped
    changed = stages("features", "train", "explain", "faithfulness", recipes=("two",), methods=("lime",))
    after_explain = stages("compare", "compare_methods", "report", "atlas", methods=("lime",))
    assert after("network", "two", "lr", value=1e-4) == changed | after_explain
    r.change("network", "two", value={"architecture": "timm/test_byobnet"})
    assert r.make() <= {"check", "report", "atlas"}  # an old value again: all else comes from the run-cache
    module = r.path / "src" / "pcam_agreement" / "pipeline" / "compare.py"
    module.write_text(module.read_text() + "print('this copy')\n")
    assert r.repro() == {"compare@lime"}
    assert "this copy" in r.said  # not the code of an installed package
    r.reset()
