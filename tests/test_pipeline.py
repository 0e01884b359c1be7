"""The real pipeline, small: real images, real DVC, real stages, in a repository of its own."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import grimp
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from pcam_agreement import pcam, store
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


def test_a_parameter_concerns_the_stages_that_read_it_and_no_other(finished):
    def concerned(*keys: str, value: object) -> set[str]:
        finished.change(*keys, value=value)
        found = set(json.loads(finished.run("dvc", "status", "--json")))
        finished.run("git", "checkout", "-q", "params.yaml")
        return found

    every = stages("explain", "faithfulness")
    assert finished.repro() == set()
    assert concerned("seed", value=5) == stages("fetch", "train", "report") | every
    assert concerned("device", value="cpu") == stages("train", "evaluate") | every
    assert concerned("data", "synthetic", "patches_per_slide", value=9) == {"fetch"}
    assert concerned("train", "epochs", value=1) == stages("train", "report")
    own = stages("train", "report", "atlas", networks=("two",))
    assert concerned("network", "two", value={"architecture": "alexnet"}) == own
    assert concerned("network", "three", "lr", value=1e-4) == {"report", "atlas"}  # nobody runs three
    assert concerned("evaluate", "temperature", value=True) == stages("evaluate")
    assert concerned("explain", "patches", value=8) == every
    assert concerned("method", "lime", "samples", value=10) == stages("explain", methods=("lime",))
    assert concerned("method", "centre", "sigma", value=9.0) == stages("compare")  # beside which networks look
    assert concerned("faithfulness", "steps", value=3) == stages("faithfulness")
    both = {"compare_methods", "report", "atlas"}
    assert concerned("agreement", "top_fraction", value=0.2) == stages("compare") | both
    assert concerned("report", "panels", value=1) == {"report"}
    assert concerned("atlas", "patches", value=3) == {"atlas"}


def test_a_change_reruns_what_depends_on_it_and_nothing_else(finished):
    r = finished

    def after(*keys: str, value: object) -> set[str]:
        r.change(*keys, value=value)
        return r.repro()

    assert after("methods", value=["lime"]) == {"compare_methods", "report", "atlas"}  # a method dropped
    own = stages("train", "evaluate", "explain", "faithfulness", networks=("two",), methods=("lime",))
    after_explain = stages("compare", "compare_methods", "report", "atlas", methods=("lime",))
    assert after("network", "two", "lr", value=1e-4) == own | after_explain
    r.change("network", "two", value={"architecture": "efficientnet_b1", "seed": 1})
    assert r.repro() <= {"report", "atlas"}  # an old value again: all else comes from the run-cache
    added = stages("train", "evaluate", "explain", "faithfulness", networks=("three",), methods=("lime",))
    assert after("networks", value=["one", "two", "three"]) == added | after_explain
    module = r.path / "src" / "pcam_agreement" / "stages" / "compare.py"
    module.write_text(module.read_text() + "print('this copy')\n")
    assert r.repro() == {"compare@lime"}
    assert "this copy" in r.said  # not the code of an installed package
    r.reset()


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
    side_by_side = r.start("python", "-m", "pcam_agreement.side_by_side", "--workers", "2")
    assert side_by_side.wait(600) == 0
    assert r.run("git", "status", "--porcelain") == ""
    assert {path.name for path in (r.path / "data" / "work").iterdir()} == {"superpixels", "logs"}  # which are kept
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
        index = store.open_heatmaps(data / "heatmaps" / method / f"{params['networks'][0]}.h5").index
        split = pcam.read(data / "patches", "test")
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
            agreement = store.read_arrays(data / "agreement" / f"{method}.h5")
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
        with h5py.File(data / "predictions" / f"{network}.h5") as file:
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
    cut_x = cut / pcam.file_name("test", "x")
    content = cut_x.read_bytes()
    cut_x.unlink()  # the copy may be a read-only link
    cut_x.write_bytes(content[: len(content) // 2])
    odd = r.read()
    odd["train"]["epoch"] = 3
    YAML().dump(odd, tmp_path / "odd.yaml")
    patches, checkpoint = "--patches=data/patches", "--checkpoint=data/checkpoints/one.safetensors"
    out = f"={tmp_path / 'out'}"
    for name, arguments, words in (
        ("fetch", ["--params", str(tmp_path / "odd.yaml"), "--out" + out], r"train\.epoch.*did you mean epochs\?"),
        ("train", ["thre", patches, "--checkpoint" + out, "--history" + out], r"network 'thre'; did you mean three\?"),
        ("explain", ["lim", "one", patches, checkpoint, "--heatmaps" + out], r"method 'lim'; did you mean lime\?"),
        ("explain", ["lime", "one", patches, "--checkpoint=none", "--heatmaps" + out], r"checkpoint none is missing"),
        ("evaluate", [f"--patches={cut}", checkpoint, "--predictions" + out, "--scores" + out], r"test_x.h5.*fetch it"),
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
    said = finished.run("env", "PYTHONPATH=src", "python", "-m", "pcam_agreement.beside", "wider")
    assert said == f"open {(finished.path / 'dvc_atlas' / 'index.html').as_uri()}\n"
    page = (finished.path / "dvc_atlas" / "index.html").read_text()
    assert "agreement.<wbr>top_fraction</th><td>0.25</td><td>0.5</td>" in page
    assert (finished.path / "dvc_atlas" / "other" / "answer.md").read_text() != (
        finished.path / "metrics" / "answer.md"
    ).read_text()


def test_every_stage_names_every_module_that_it_imports():
    graph = grimp.build_graph("pcam_agreement")
    for name, stage in YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"].items():
        module = re.search(r"-m (\S+)", stage["cmd"])[1]
        used = {module} | graph.find_upstream_modules(module)
        files = set()
        for used_module in used:
            path = Path("src", *used_module.split("."))
            files.add(f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py")
            if (ROOT / path.parent / "assets").is_dir():  # what a module reads beside it
                files.add(f"{path.parent}/assets")
        documentation = {"src/pcam_agreement/__init__.py", "src/pcam_agreement/stages/__init__.py"}
        assert {dep for dep in stage["deps"] if dep.startswith("src/")} == files - documentation, name
