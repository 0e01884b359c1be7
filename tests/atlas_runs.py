"""Made-up runs with their atlases, as fixtures of the atlas's tests."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import made_up_run
from pcam_agreement.atlas import contents, page
from repository import ROOT

METHODS = ["saliency", "lime"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A made-up run of five networks, and its atlas."""
    folder = tmp_path_factory.mktemp("atlas") / "run"
    raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    raw["methods"] = METHODS
    made_up_run.write(folder, raw)
    made_up_run.build(folder)
    return folder


@pytest.fixture(scope="module")
def other(run) -> Path:
    """Another run: smaller masks, one network and some patches less, no tumour masks."""
    folder = run.with_name("other")
    raw = params_of(run)
    for key in ("networks", "tested"):
        raw[key].remove("alexnet")
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
