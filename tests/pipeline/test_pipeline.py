"""The real pipeline, small: real images, real DVC, real stages, in a repository of its own.

Its repository is built once for all tests that need it (`finished` in conftest.py). What reruns is in
test_pipeline_reruns.py, what goes wrong in test_pipeline_faults.py.
"""

import functools
import itertools
import json
import re
import subprocess
from fnmatch import fnmatch

import grimp
import h5py
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.networks.recipes import networks
from repository import ROOT, stages

pytestmark = pytest.mark.slow


def test_a_parameter_concerns_the_stages_that_read_it_and_no_other(finished):
    def after(*keys: str, value: object) -> set[str]:
        finished.change(*keys, value=value)
        result = finished.concerned()
        finished.run("git", "checkout", "-q", "params.yaml")
        assert "check" in result
        return result - {"check"}

    every = stages("explain", "faithfulness")
    assert finished.concerned() == set()
    assert after("seeds", "data", value=5) == {"fetch"}
    assert after("seeds", "training_patches", value=5) == stages("train")
    assert after("seeds", "explained_patches", value=5) == stages("explain")
    assert after("seeds", "perturbation", value=5) == every
    assert after("seeds", "statistics", value=5) == {"report"}
    assert after("device", value="cpu") == stages("features", "train") | every
    assert after("threads", value=2) == stages("features", "train", "report") | every
    assert after("data", "synthetic", "patches_per_slide", value=9) == {"fetch"}
    assert after("train", "epochs", value=1) == stages("train", "report", "atlas")
    for key, value in (("lr", 0.1), ("batch_size", 4), ("fraction", 0.5), ("label", "tumor_patch")):
        assert after("train", key, value=value) == stages("train", "report", "atlas")  # features stay
    for key, value in (("freeze", True), ("weights", "default"), ("pooling", "mean"), ("stain_jitter", 0.0)):
        assert after("train", key, value=value) == stages("features", "train", "report", "atlas")
    changed = stages("features", "train", "report", "atlas", recipes=("two",))
    assert after("network", "two", value={"architecture": "alexnet"}) == changed
    assert after("network", "three", "lr", value=1e-4) == {"report", "atlas"}  # nobody runs three
    assert after("explain", "patches", value=8) == every
    assert after("method", "lime", "samples", value=10) == stages("explain", methods=("lime",))
    assert after("method", "centre", "sigma", value=9.0) == set()  # nobody runs centre
    assert after("faithfulness", "steps", value=3) == stages("faithfulness")
    both = {"compare_methods", "report", "atlas"}
    more = stages("train", "explain", trainings=("3",)) | stages("faithfulness", "compare")
    assert after("trainings", value=[1, 2, 3]) == more | both
    assert after("agreement", "top_fraction", value=0.2) == stages("compare") | both
    assert after("report", "temperature", value=True) == {"report"}
    assert after("atlas", "patches", value=3) == {"atlas"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("attribution/methods/lime.py", stages("explain", methods=("lime",))),
        ("attribution/faithfulness/settings.py", stages("faithfulness")),
        ("attribution/explain.py", stages("explain")),
        ("training/settings.py", stages("features", "train")),
        ("training/features.py", stages("features", "train")),
        ("training/fit.py", stages("train")),
        ("inference/load.py", stages("explain", "faithfulness")),
        ("agreement/settings.py", stages("compare", "compare_methods", "report", "atlas")),
        ("report/settings.py", {"report"}),
        ("report/figures/pairs.py", {"report"}),
        ("atlas/settings.py", {"atlas"}),
        ("atlas/assets/atlas.css", {"atlas"}),
        ("data/sources/pcam.py", {"fetch"}),
        ("pipeline/params.py", set()),
        ("pipeline/profile.py", set()),
    ],
)
def test_a_comment_concerns_the_stages_that_the_file_can_change_and_no_other(finished, file, expected):
    path = finished.path / "src" / "pcam_agreement" / file
    before = path.read_text()
    path.write_text(before + ("\n# a comment\n" if path.suffix == ".py" else "/* a comment */\n"))
    assert finished.concerned() - {"check"} == expected
    path.write_text(before)
    if file.startswith("report/figures"):
        assert "check" not in expected


def test_stages_that_are_done_leave_no_unfinished_work(finished):
    left = {path.name for path in (finished.path / "data" / "work").iterdir()}
    assert left == {"superpixels"}  # the networks share them


def test_the_tables_say_what_a_slow_count_over_the_heatmaps_says(finished):
    data = finished.path / "data"
    params = finished.read()
    run = networks(params)
    summary = json.loads((finished.path / "metrics" / "summary.json").read_text())
    table = pd.read_csv(finished.path / "plots" / "agreement.csv").set_index(["method", "network_a", "network_b"])
    fraction = params["agreement"]["top_fraction"]
    of_methods = {}
    for method in params["methods"]:
        masks = of_methods[method] = {}
        index = open_heatmaps(data / "heatmaps" / method / "one/1.h5").index
        split = read_split(data / "patches", "test")
        classes, slides = split.labels[index], split.meta["wsi"].to_numpy()[index]
        for network in run:
            with h5py.File(network.path(data / "heatmaps" / method, ".h5")) as file:
                masks[network.name] = [slow_mask(heatmap, fraction) for heatmap in file["heatmaps"]]
        kinds: dict[str, list[float]] = {}
        for a, b in itertools.combinations(masks, 2):
            said = [(x, y) for x, y in zip(masks[a], masks[b], strict=True) if x and y]
            ious = [sum(map(min, x, y)) / sum(map(max, x, y)) for x, y in said]
            row = table.loc[(method, a, b)]
            assert row["patches"] == len(ious)
            assert row["iou"] == pytest.approx(np.mean(ious), rel=1e-5)
            dice = [2 * iou / (1 + iou) for iou in ious]
            assert row["kappa"] == pytest.approx(np.mean([(d - fraction) / (1 - fraction) for d in dice]), abs=1e-5)
            nulls = [slow_null(masks[a], masks[b], patch, classes, slides) for patch in range(len(classes))]
            assert row["null"] == pytest.approx(np.nanmean(nulls), rel=1e-5, nan_ok=True)
            kinds.setdefault("within" if a.split("-")[0] == b.split("-")[0] else "between", []).append(np.mean(ious))
        for kind, values in kinds.items():
            assert summary["agreement"][method][f"iou_{kind}"] == pytest.approx(np.mean(values), abs=1e-4)
        agreement = read_arrays(data / "agreement" / f"{method}.h5")
        assert agreement["curve"].tolist() == params["agreement"]["fractions"]
        np.testing.assert_allclose(agreement["curve_iou"][2], agreement["iou"], rtol=1e-5)  # at 0.25
    table = pd.read_csv(finished.path / "plots" / "methods.csv").set_index(["network", "method_a", "method_b"])
    for network in masks:
        a, b = (of_methods[method][network] for method in params["methods"])
        row = table.loc[(network, *params["methods"])]
        ious = [sum(map(min, x, y)) / sum(map(max, x, y)) for x, y in zip(a, b, strict=True) if x and y]
        nulls = [slow_null(a, b, patch, classes, slides) for patch in range(len(classes))]
        assert (row["patches"], row["iou"]) == (len(ious), pytest.approx(np.mean(ious), rel=1e-5))
        assert row["null"] == pytest.approx(np.nanmean(nulls), rel=1e-5, nan_ok=True)
    for network in run:
        with h5py.File(network.path(data / "logits", ".h5")) as file:
            logits, labels = file["test_logits"][:], file["test_labels"][:]
        wins = [(t > n) + (t == n) / 2 for t in logits[labels == 1] for n in logits[labels == 0]]
        assert summary["auroc"][network.name] == pytest.approx(np.mean(wins), abs=1e-4)


def slow_null(a: list, b: list, patch: int, labels: np.ndarray, slides: np.ndarray) -> float:
    """The mean IoU of one network's mask of this patch with the other's of patches of its label on other slides."""
    if not a[patch] or not b[patch]:
        return np.nan
    halves = []
    for first, second in ((a, b), (b, a)):
        masks = [
            second[q] for q in range(len(a)) if labels[q] == labels[patch] and slides[q] != slides[patch] and second[q]
        ]
        ious = [sum(map(min, first[patch], mask)) / sum(map(max, first[patch], mask)) for mask in masks]
        halves.append(np.mean(ious) if ious else np.nan)
    return float(np.mean(halves))


def slow_mask(heatmap: np.ndarray, fraction: float) -> list[float]:
    """The top fraction of the pixels, one by one; those that tie share what is left. Empty if it is constant."""
    pixels = [float(value) for value in heatmap.ravel()]
    if len(set(pixels)) == 1:
        return []
    k = round(fraction * len(pixels))
    threshold = sorted(pixels, reverse=True)[k - 1]
    share = (k - sum(value > threshold for value in pixels)) / pixels.count(threshold)
    return [1.0 if value > threshold else share if value == threshold else 0.0 for value in pixels]


def test_a_clone_without_data_is_up_to_date_and_with_data_clean(finished, tmp_path):
    finished.run("dvc", "remote", "add", "--default", "--force", "--local", "shared", str(tmp_path / "remote"))
    finished.run("dvc", "push", "-q")
    finished.run("git", "clone", "-q", str(finished.path), str(tmp_path / "clone"))

    def inside(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path / "clone", env=finished.environment, text=True, capture_output=True, check=True
        )
        return done.stdout + done.stderr

    assert "up to date" in inside("dvc", "repro", "--allow-missing", "--dry")
    inside("dvc", "remote", "add", "--default", "--local", "shared", str(tmp_path / "remote"))
    inside("dvc", "pull", "-q")
    assert "up to date" in inside("dvc", "status")
    assert "up to date" in inside("dvc", "repro")


def test_experiments_are_made_shown_and_plotted_without_a_network(finished):
    finished.run("dvc", "exp", "run", "-q", "-n", "wider", "-S", "agreement.top_fraction=0.5")
    shown = finished.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert "wider" in shown
    assert "agreement.saliency.iou_within" in shown
    finished.run("dvc", "plots", "diff", "HEAD", "workspace")
    page = (finished.path / "dvc_plots" / "index.html").read_text()
    assert not re.search(r'<script[^>]+src="https?:', page)
    assert page.count("vegaEmbed(") >= 4
    finished.reset()
    said = finished.run("env", "PYTHONPATH=src", "python", "-m", "pcam_agreement.pipeline.compare_atlases", "wider")
    assert said == f"open {(finished.path / 'dvc_atlas' / 'index.html').as_uri()}\n"
    page = (finished.path / "dvc_atlas" / "index.html").read_text()
    assert "agreement.<wbr>top_fraction</th><td>0.25</td><td>0.5</td>" in page
    assert (finished.path / "dvc_atlas" / "other" / "answer.md").read_text() != (
        finished.path / "metrics" / "answer.md"
    ).read_text()


@functools.cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("pcam_agreement")


def files_that_a_stage_imports(module: str) -> set[str]:
    """The files of this project that importing a module imports, without the empty __init__.py."""
    graph = import_graph()
    modules = {module} | graph.find_upstream_modules(module)
    files = {f"src/{name.replace('.', '/')}.py" for name in modules}
    return {file for file in files if (ROOT / file).exists()}


def test_every_import_of_a_stage_lies_under_one_of_its_dependencies_and_every_dependency_is_used():
    for name, stage in YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"].items():
        module = re.search(r"-m (\S+)", stage["cmd"])[1]
        files = files_that_a_stage_imports(module)
        if name in ("check", "fetch"):  # what they find by its file name
            files |= {str(path.relative_to(ROOT)) for path in (ROOT / "src/pcam_agreement/data/sources").glob("*.py")}
        if name in ("check", "explain"):
            for path in sorted((ROOT / "src/pcam_agreement/attribution/methods").glob("[a-z]*.py")):
                method = f"pcam_agreement.attribution.methods.{path.stem}"
                files |= files_that_a_stage_imports(method)
        deps = [re.sub(r"\$\{item\.\w+\}", "*", dep) for dep in stage["deps"] if dep.startswith("src/")]

        def under(file: str, dep: str) -> bool:
            return fnmatch(file, dep) or file.startswith(dep + "/")

        missing = {file for file in files if not any(under(file, dep) for dep in deps)}
        assert not missing, f"{name} imports {missing}"
        unused = {dep for dep in deps if not any(under(file, dep) for file in files)}
        assert not unused, f"{name} does not import {unused}"
