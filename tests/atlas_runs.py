"""Made-up runs with their atlases, as fixtures of the atlas's tests."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import made_up_run
from pcam_agreement.atlas import contents, page
from report_runs import small

METHODS = ["saliency", "lime"]
RECIPES = ["test_resnet", "test_byobnet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A made-up run of two recipes, three trainings and an untrained network of each, and its atlas."""
    folder = tmp_path_factory.mktemp("atlas") / "run"
    made_up_run.write(folder, small(RECIPES, methods=METHODS))
    made_up_run.build(folder)
    return folder


@pytest.fixture(scope="module")
def other(run) -> Path:
    """Another run: smaller masks, one recipe, two trainings, fewer patches, no tumour masks."""
    folder = run.with_name("other")
    raw = small(RECIPES[:1], (1, 2, "untrained"), METHODS)
    raw["agreement"]["top_fraction"] = 0.1
    raw["atlas"]["patches"] = 5
    made_up_run.write(folder, raw, masks=False)
    made_up_run.build(folder)
    return folder


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
