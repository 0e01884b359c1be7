"""Made-up runs with their reports, as fixtures of the report's tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

import made_up_run
from repository import ROOT

RECIPES = ("test_resnet", "test_byobnet", "test_efficientnet")


@dataclass(frozen=True)
class Report:
    """What `report` wrote."""

    folder: Path
    raw: dict

    @property
    def answer(self) -> str:
        return (self.folder / "metrics" / "answer.md").read_text()

    @property
    def said(self) -> str:
        """The answer as one line."""
        return " ".join(self.answer.split())

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "metrics" / "summary.json").read_text())

    @property
    def figures(self) -> Path:
        return self.folder / "plots" / "figures"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / "plots" / f"{name}.csv", keep_default_na=False, na_values=["", "nan"])


def small(recipes=RECIPES, trainings=(1, 2, 3, "untrained"), methods=("saliency", "lime")) -> dict:
    """The committed parameters, cut down to what a made-up run can afford."""
    raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    raw.update(recipes=list(recipes), trainings=list(trainings), methods=list(methods))
    for name in recipes:
        raw["network"][name].pop("epochs", None)  # recipes that differ in their architecture alone
    raw["agreement"].update(sigmas=[0, 2], fractions=[0.10, 0.25], ssim_patches=6, bootstrap=200)
    raw["report"]["panels"] = 2
    return raw


WHOLE: list[Report] = []  # made once: several files import the fixture


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three recipes of three trainings and an untrained network each, by two methods, one of them stochastic."""
    if not WHOLE:
        report = Report(tmp_path_factory.mktemp("report"), small())
        made_up_run.write(report.folder, report.raw, patches=21)
        WHOLE.append(report)
    return WHOLE[0]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Report]:
    """Make a run of one method and these recipes and trainings; more: see `made_up_run.write`."""

    def make(recipes=RECIPES[:2], trainings=(1, 2, 3, "untrained"), patches=21, **more) -> Report:
        report = Report(tmp_path_factory.mktemp("report"), small(recipes, trainings, ("saliency",)))
        made_up_run.write(report.folder, report.raw, patches=patches, **more)
        return report

    return make
