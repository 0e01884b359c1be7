"""Made-up runs with their atlases, as fixtures of the atlas's tests."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import made_up_run
from conftest import made_once
from pcam_agreement.atlas import contents, page
from report_runs import small

METHODS = ["saliency", "lime"]
RECIPES = ["test_resnet", "test_byobnet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the next two, made once and copied for each file of tests."""

    def make(folder: Path) -> None:
        raw = small(RECIPES[:1], (1, 2, "untrained"), METHODS)
        raw["agreement"]["top_fraction"] = 0.1
        raw["atlas"]["patches"] = 5
        made_up_run.write(folder / "run", small(RECIPES, methods=METHODS))
        made_up_run.write(folder / "other", raw, masks=False)
        for name in ("run", "other"):
            made_up_run.build(folder / name)

    return shutil.copytree(made_once(tmp_path_factory, "atlas", make), tmp_path_factory.mktemp("atlas") / "runs")


@pytest.fixture(scope="module")
def run(runs) -> Path:
    """A made-up run of two recipes, three trainings and an untrained network of each, and its atlas."""
    return runs / "run"


@pytest.fixture(scope="module")
def other(runs) -> Path:
    """Another run: smaller masks, one recipe, two trainings, fewer patches, no tumour masks."""
    return runs / "other"


@pytest.fixture(scope="module")
def both(run, other) -> Path:
    """The page of the two runs."""
    folder = run.with_name("both")
    for name, one in (("run", run), ("other", other)):
        shutil.copytree(one / "data" / "atlas" / "run", folder / name)
    differences = contents.differences(params_of(run), params_of(other))
    page.write_page(folder, {"run": "this run", "other": "smaller"}, differences)
    return folder / "index.html"


def params_of(folder: Path) -> dict:
    return YAML(typ="safe", pure=True).load(folder / "params.yaml")
