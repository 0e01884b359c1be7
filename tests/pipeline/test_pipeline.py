"""The real pipeline, small: real images, real DVC, real stages, in a repository of its own."""

import itertools
import json
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import grimp
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import file_name, read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from repository import ROOT, Repository, stages, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic patches as image files in class folders below train, valid and test."""
    return write_images(dataset, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose pipeline was run once, and committed."""
    repository = Repository(tmp_path_factory.mktemp("repository"), images)
    repository.repro()
    repository.commit()
    return repository


def concerned(r: Repository) -> set[str]:
    """The stages that want to run."""
    return set(json.loads(r.run("dvc", "status", "--json")))


def test_a_parameter_concerns_the_stages_that_read_it_and_no_other(finished):
    def after(*keys: str, value: object) -> set[str]:
        finished.change(*keys, value=value)
        result = concerned(finished)
        finished.run("git", "checkout", "-q", "params.yaml")
        assert "check" in result
        return result - {"check"}

    every = stages("explain", "faithfulness")
    assert finished.repro() == set()
    assert after("seed", value=5) == stages("fetch", "train", "report", "atlas") | every
    assert after("device", value="cpu") == stages("train") | every
    assert after("threads", value=2) == stages("train", "report") | every
    assert after("data", "synthetic", "patches_per_slide", value=9) == {"fetch"}
    assert after("train", "epochs", value=1) == stages("train", "report", "atlas")
    changed = stages("train", "report", "atlas", networks=("two",))
    assert after("network", "two", value={"architecture": "alexnet"}) == changed
    assert after("network", "three", "lr", value=1e-4) == {"report", "atlas"}  # nobody runs three
    assert after("explain", "patches", value=8) == every
    assert after("method", "lime", "samples", value=10) == stages("explain", methods=("lime",))
    assert after("method", "centre", "sigma", value=9.0) == set()  # nobody runs centre
    assert after("faithfulness", "steps", value=3) == stages("faithfulness")
    both = {"compare_methods", "report", "atlas"}
    assert after("agreement", "top_fraction", value=0.2) == stages("compare") | both
    assert after("report", "temperature", value=True) == {"report"}
    assert after("atlas", "patches", value=3) == {"atlas"}


COMMENT = "\n# a comment\n"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("attribution/methods/lime.py", stages("explain", methods=("lime",))),
        ("attribution/faithfulness/settings.py", stages("faithfulness")),
        ("attribution/explain.py", stages("explain")),
        ("training/settings.py", stages("train")),
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
    path.write_text(before + (COMMENT if path.suffix == ".py" else "/* a comment */\n"))
    assert concerned(finished) - {"check"} == expected
    path.write_text(before)
    if file.startswith("report/figures"):
        assert "check" not in expected


def test_a_network_is_a_block_and_reruns_its_own_stages_and_what_compares(finished):
    r = finished
    for key in ("networks", "tested"):
        r.change(key, value=["one", "two", "three"])
    r.change("network", "three", value={"architecture": "shufflenet_v2_x0_5", "epochs": 1})  # never named in the code
    added = stages("train", "explain", "faithfulness", networks=("three",))
    assert r.repro() == {"check"} | added | stages("compare", "compare_methods", "report", "atlas")
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
    before = concerned(r)
    path.write_text(METHOD)
    assert concerned(r) - before == {"check"}
    r.change("method", "scaled_gradient", value={"reduce": "max_of_absolute", "factor": 2.0})
    r.change("methods", value=["saliency", "lime", "scaled_gradient"])
    added = stages("explain", "faithfulness", "compare", methods=("scaled_gradient",))
    assert r.repro() == {"check", "compare_methods", "report", "atlas"} | added
    table = pd.read_csv(r.path / "plots" / "methods.csv")
    row = table[(table["method_a"] == "saliency") & (table["method_b"] == "scaled_gradient")].iloc[0]
    assert row["iou"] == pytest.approx(1)  # a factor changes no mask
    assert "Scaled gradient" in (r.path / "metrics" / "answer.md").read_text()
    path.write_text(METHOD + COMMENT)
    assert concerned(r) == {"check"} | stages("explain", methods=("scaled_gradient",))
    path.unlink()
    r.reset()


def test_a_change_reruns_what_depends_on_it_and_nothing_else(finished):
    r = finished

    def after(*keys: str, value: object) -> set[str]:
        r.change(*keys, value=value)
        return r.repro() - {"check"}

    assert after("methods", value=["lime"]) == {"compare_methods", "report", "atlas"}  # a method dropped
    changed = stages("train", "explain", "faithfulness", networks=("two",), methods=("lime",))
    after_explain = stages("compare", "compare_methods", "report", "atlas", methods=("lime",))
    assert after("network", "two", "lr", value=1e-4) == changed | after_explain
    r.change("network", "two", value={"architecture": "efficientnet_b1", "seed": 1})
    assert r.repro() <= {"check", "report", "atlas"}  # an old value again: all else comes from the run-cache
    module = r.path / "src" / "pcam_agreement" / "pipeline" / "compare.py"
    module.write_text(module.read_text() + "print('this copy')\n")
    assert r.repro() == {"compare@lime"}
    assert "this copy" in r.said  # not the code of an installed package
    r.reset()


def test_a_wrong_setting_is_refused_before_anything_runs(finished):
    finished.change("agreement", "top_fraction", value=1.5)
    said = finished.run("dvc", "repro", check=False)
    assert "error: params.yaml: agreement.top_fraction: input should be less than 1, found 1.5." in said
    assert "Running stage 'fetch'" not in said
    finished.reset()


def test_a_run_without_a_cache_that_is_killed_three_times_and_ends_side_by_side_gives_the_same_bytes(finished):
    r = finished
    for path in ("data", ".dvc/cache"):
        shutil.rmtree(r.path / path)
    r.kill_when("data/patches.partial")
    assert not (r.path / "data" / "patches").exists()
    r.kill_when("data/work/train-two-*/last.ckpt")
    assert not (r.path / "data" / "checkpoints" / "two.safetensors").exists()
    r.kill_when("data/work/explain-lime-one-*/chunk-00000.npz")
    assert not (r.path / "data" / "heatmaps" / "lime" / "one.h5").exists()
    (kept,) = r.path.glob("data/work/explain-lime-one-*/chunk-00000.npz")
    assert not (kept.parent / "chunk-00002.npz").exists()
    (r.path / "dvc.lock").write_bytes(b"")  # as if it had been killed while it wrote this
    assert "validation failed" in r.run("dvc", "repro", check=False)
    r.run("git", "checkout", "-q", "dvc.lock")
    side_by_side = r.start("python", "-m", "pcam_agreement.pipeline.parallel", "--workers", "2")
    assert side_by_side.wait(600) == 0
    assert r.run("git", "status", "--porcelain") == ""
    assert {path.name for path in (r.path / "data" / "work").iterdir()} == {
        "superpixels",
        "logs",
        "dvc.lock",
    }  # which are kept
    assert r.repro() == set()


def test_the_tables_say_what_a_slow_count_over_the_heatmaps_says(finished):
    data = finished.path / "data"
    params = finished.read()
    summary = json.loads((finished.path / "metrics" / "summary.json").read_text())
    table = pd.read_csv(finished.path / "plots" / "agreement.csv").set_index(["method", "network_a", "network_b"])
    fraction = params["agreement"]["top_fraction"]
    of_methods = {}
    for method in params["methods"]:
        masks = of_methods[method] = {}
        index = open_heatmaps(data / "heatmaps" / method / f"{params['networks'][0]}.h5").index
        split = read_split(data / "patches", "test")
        classes, slides = split.labels[index], split.meta["wsi"].to_numpy()[index]
        for network in params["networks"]:
            with h5py.File(data / "heatmaps" / method / f"{network}.h5") as file:
                masks[network] = [slow_mask(heatmap, fraction) for heatmap in file["heatmaps"]]
        for a, b in itertools.combinations(params["networks"], 2):
            said = [(x, y) for x, y in zip(masks[a], masks[b], strict=True) if x and y]
            ious = [sum(map(min, x, y)) / sum(map(max, x, y)) for x, y in said]
            row = table.loc[(method, a, b)]
            assert row["patches"] == len(ious)
            assert row["iou"] == pytest.approx(np.mean(ious), rel=1e-5)
            dice = [2 * iou / (1 + iou) for iou in ious]
            assert row["kappa"] == pytest.approx(np.mean([(d - fraction) / (1 - fraction) for d in dice]), abs=1e-5)
            nulls = [slow_null(masks[a], masks[b], patch, classes, slides) for patch in range(len(classes))]
            assert row["null"] == pytest.approx(np.nanmean(nulls), rel=1e-5, nan_ok=True)
            assert summary["agreement"][method]["ceiling"] == pytest.approx(np.mean(ious), abs=1e-4)
            agreement = read_arrays(data / "agreement" / f"{method}.h5")
            assert agreement["curve"].tolist() == params["agreement"]["curve"]
            assert np.nanmean(agreement["curve_iou"][2, 0]) == pytest.approx(np.mean(ious), rel=1e-5)  # at 0.25
    table = pd.read_csv(finished.path / "plots" / "methods.csv").set_index(["network", "method_a", "method_b"])
    for network in params["networks"]:
        a, b = (of_methods[method][network] for method in params["methods"])
        row = table.loc[(network, *params["methods"])]
        ious = [sum(map(min, x, y)) / sum(map(max, x, y)) for x, y in zip(a, b, strict=True) if x and y]
        nulls = [slow_null(a, b, patch, classes, slides) for patch in range(len(classes))]
        assert (row["patches"], row["iou"]) == (len(ious), pytest.approx(np.mean(ious), rel=1e-5))
        assert row["null"] == pytest.approx(np.nanmean(nulls), rel=1e-5, nan_ok=True)
    for network in params["networks"]:
        with h5py.File(data / "logits" / f"{network}.h5") as file:
            logits, labels = file["test_logits"][:], file["test_labels"][:]
        wins = [(t > n) + (t == n) / 2 for t in logits[labels == 1] for n in logits[labels == 0]]
        assert summary["auroc"][network] == pytest.approx(np.mean(wins), abs=1e-4)


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


def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(finished, tmp_path):
    r = finished
    cut = tmp_path / "cut"
    shutil.copytree(r.path / "data" / "patches", cut)
    cut_x = cut / file_name("test", "x")
    content = cut_x.read_bytes()
    cut_x.unlink()  # the copy may be a read-only link
    cut_x.write_bytes(content[: len(content) // 2])
    odd = r.read()
    odd["train"]["epoch"] = 3
    YAML().dump(odd, tmp_path / "odd.yaml")
    patches, checkpoint = "--patches=data/patches", "--checkpoint=data/checkpoints/one.safetensors"
    out = f"={tmp_path / 'out'}"
    for name, arguments, words in (
        ("check", ["--params", str(tmp_path / "odd.yaml"), "--out" + out], r"train\.epoch.*did you mean epochs\?"),
        (
            "train",
            ["thre", patches, "--checkpoint" + out, "--history" + out, "--logits" + out],
            r"network 'thre'; did you mean three\?",
        ),
        ("explain", ["lim", "one", patches, checkpoint, "--heatmaps" + out], r"method 'lim'; did you mean lime\?"),
        (
            "explain",
            ["lime", "one", patches, "--checkpoint=none", "--heatmaps" + out],
            r"none is missing; run the stage",
        ),
        ("explain", ["lime", "one", f"--patches={cut}", checkpoint, "--heatmaps" + out], r"test_x.h5.*fetch it"),
        ("compare", [patches, f"--heatmaps={tmp_path}", "--agreement" + out], r"one\.h5 is missing; run"),
        (
            "faithfulness",
            [patches, checkpoint, f"--heatmaps={tmp_path / 'one.h5'}", "--faithfulness" + out],
            r"one\.h5 is missing; run",
        ),
        ("compare_methods", [patches, f"--heatmaps={tmp_path}", "--agreement" + out], r"one\.h5 is missing; run"),
    ):
        status, said = r.stage(name, *arguments)
        assert status == 1
        assert re.fullmatch(r"error: [^\n]+\n", said), said
        assert re.search(words, said), said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "odd.yaml"]


def test_two_processes_that_are_killed_twice_explain_to_the_bytes_of_one(finished, tmp_path):
    raw = finished.read()
    raw["explain"]["devices"] = 2
    YAML().dump(raw, tmp_path / "params.yaml")
    arguments = ["--patches=data/patches", "--checkpoint=data/checkpoints/one.safetensors"]
    arguments += [f"--params={tmp_path / 'params.yaml'}", f"--heatmaps={tmp_path / 'lime.h5'}"]
    command = finished.stage_command("explain", "lime", "one", *arguments)
    for chunk in ("chunk-00000.npz", "chunk-00001.npz"):
        finished.kill_when(f"data/work/explain-lime-one-*/{chunk}", command=command)
        assert not (tmp_path / "lime.h5").exists()
    status, said = finished.stage("explain", "lime", "one", *arguments)
    assert status == 0, said
    assert (tmp_path / "lime.h5").read_bytes() == (finished.path / "data/heatmaps/lime/one.h5").read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_ends_the_run_before_it_starts(finished):
    finished.change("device", value="cuda")
    said = finished.run("dvc", "repro", "train", check=False)
    assert "error: device is cuda but torch sees no GPU" in said
    finished.reset()


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
    assert "agreement.saliency.ceiling" in shown
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


def files_that_a_stage_imports(module: str) -> set[str]:
    """The files of this project that importing a module imports, without the empty __init__.py."""
    graph = grimp.build_graph("pcam_agreement")
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
        if name == "check":  # imported where grad_cam is chosen
            files |= files_that_a_stage_imports("pcam_agreement.networks.spatial")
        deps = [re.sub(r"\$\{item\.\w+\}", "*", dep) for dep in stage["deps"] if dep.startswith("src/")]

        def under(file: str, dep: str) -> bool:
            return fnmatch(file, dep) or file.startswith(dep + "/")

        missing = {file for file in files if not any(under(file, dep) for dep in deps)}
        assert not missing, f"{name} imports {missing}"
        unused = {dep for dep in deps if not any(under(file, dep) for file in files)}
        assert not unused, f"{name} does not import {unused}"
