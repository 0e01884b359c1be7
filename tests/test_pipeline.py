"""The real pipeline, small: real images, real DVC, real stages, in a repository of its own."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grimp
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from pcam_agreement import pcam

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared" / "pcam-sample"
pytestmark = pytest.mark.slow


class Repository:
    """A git and DVC repository with the project's pipeline and small parameters."""

    def __init__(self, path: Path, images: Path, change: Callable[[dict], None] = lambda raw: None) -> None:
        self.path, self.said = path, ""
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, path / name)
        shutil.copytree(ROOT / "src", path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (path / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", path / ".dvc" / "config")
        shutil.copytree(ROOT / ".dvc" / "plots", path / ".dvc" / "plots")
        shutil.copy(ROOT / ".dvc" / "plots_page.html", path / ".dvc" / "plots_page.html")
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
        }
        raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        raw["networks"] = ["one", "two"]
        raw["methods"] = ["saliency", "lime"]
        raw["data"].update(source="folder", folder={**raw["data"]["folder"], "path": str(images)})
        raw["train"].update(epochs=2, batch_size=8)
        raw["network"] = {
            "one": {"architecture": "efficientnet_b1"},
            "two": {"architecture": "efficientnet_b1", "seed": 1},
            "three": {"architecture": "efficientnet_b1", "epochs": 0},
        }
        raw["explain"].update(patches=6, chunk=2, batch_size=8)
        raw["method"]["lime"].update(samples=12, max_samples=12, segments=9)
        raw["report"]["panels"] = 2
        change(raw)
        self.write(raw)
        self.run("git", "init", "-q")
        self.commit()

    def read(self) -> dict:
        return YAML(typ="safe", pure=True).load(self.path / "params.yaml")

    def write(self, raw: dict) -> None:
        YAML().dump(raw, self.path / "params.yaml")

    def change(self, *keys: str, value: object) -> None:
        raw = self.read()
        block = raw
        for key in keys[:-1]:
            block = block[key]
        block[keys[-1]] = value
        self.write(raw)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, cwd=self.path, env=self.environment, text=True, capture_output=True)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "x", "--allow-empty")

    def repro(self, *options: str) -> set[str]:
        """Run the pipeline; the names of the stages that were executed."""
        self.said = self.run("dvc", "repro", *options)
        return set(re.findall(r"^Running stage '([^']+)'", self.said, re.MULTILINE))

    def kill_when(self, *sign: str) -> None:
        """Start the pipeline and kill -9 all of it as soon as a path like one of these patterns exists."""
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not any(next(self.path.glob(pattern), None) for pattern in sign):
            assert process.poll() is None, f"the pipeline ended before {sign} was there"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stage(self, name: str, *arguments: str) -> tuple[int, str]:
        """Exit status and stderr of one stage, run without DVC."""
        command = [sys.executable, "-m", f"pcam_agreement.stages.{name}", *arguments]
        environment = {**self.environment, "PYTHONPATH": "src"}
        done = subprocess.run(command, cwd=self.path, env=environment, text=True, capture_output=True)
        return done.returncode, done.stderr

    def reset(self) -> None:
        """Back to the commit, without files of networks that are not in it."""
        for leftover in self.path.glob("data/**/three*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")

    def lock(self) -> bytes:
        return (self.path / "dvc.lock").read_bytes()


@pytest.fixture(scope="module")
def images(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic patches as image files in class folders below train, valid and test."""
    folder = tmp_path_factory.mktemp("images")
    for name in pcam.SPLITS:
        split = pcam.read(dataset, name)
        for number, (patch, label) in enumerate(zip(split.patches, split.labels, strict=True)):
            path = folder / name / ("normal", "tumour")[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(patch)).save(path)
    return folder


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose pipeline was run once, and committed."""
    repository = Repository(tmp_path_factory.mktemp("repository"), images)
    repository.repro()
    repository.commit()
    return repository


def stages(*names: str, networks: tuple[str, ...] = ("one", "two"), methods: tuple[str, ...] = ("saliency", "lime")):
    """train, evaluate, explain and compare with their matrices, other names as they are."""
    found = set()
    for name in names:
        if name in ("train", "evaluate"):
            found |= {f"{name}@{network}" for network in networks}
        elif name == "explain":
            found |= {f"explain@{method}-{network}" for method in methods for network in networks}
        elif name == "compare":
            found |= {f"compare@{method}" for method in methods}
        else:
            found.add(name)
    return found


def test_a_change_reruns_what_depends_on_it_and_nothing_else(finished):
    r = finished

    def after(*keys: str, value: object) -> set[str]:
        r.change(*keys, value=value)
        return r.repro()

    assert r.repro() == set()
    assert after("network", "three", "lr", value=1e-4) == {"report"}  # nobody runs three
    lime = stages("explain", "compare", "report", methods=("lime",))
    assert after("method", "lime", "samples", value=10) == lime
    assert after("methods", value=["lime"]) == {"report"}  # a method dropped
    assert after("explain", "patches", value=8) == lime
    own = stages("train", "evaluate", "explain", networks=("two",), methods=("lime",))
    after_explain = stages("compare", "report", methods=("lime",))
    assert after("network", "two", "lr", value=1e-4) == own | after_explain
    r.change("network", "two", value={"architecture": "efficientnet_b1", "seed": 1})
    assert r.repro() <= {"report"}  # an old value again: all else comes from the run-cache
    assert after("train", "epochs", value=1) == stages("train", "evaluate", methods=("lime",)) | lime
    assert after("agreement", "top_fraction", value=0.2) == after_explain
    added = stages("train", "evaluate", "explain", networks=("three",), methods=("lime",))
    assert after("networks", value=["one", "two", "three"]) == added | after_explain
    module = r.path / "src" / "pcam_agreement" / "stages" / "compare.py"
    module.write_text(module.read_text() + "print('this copy')\n")
    assert r.repro() == {"compare@lime"}
    assert "this copy" in r.said  # not the code of an installed package
    r.reset()


def test_a_forced_second_run_gives_the_same_bytes(finished):
    assert finished.repro("--force") == stages("fetch", "train", "evaluate", "explain", "compare", "report")
    assert finished.run("git", "status", "--porcelain") == ""


def test_a_pipeline_that_is_killed_goes_on_and_ends_in_the_same_bytes(finished):
    r = finished
    for path in ("data", ".dvc/cache"):
        shutil.rmtree(r.path / path)
    r.kill_when("data/patches.partial")
    assert not (r.path / "data" / "patches").exists()
    r.kill_when("data/work/train-two-*/last.ckpt")
    assert not (r.path / "data" / "checkpoints" / "two.safetensors").exists()
    r.kill_when("data/work/explain-lime-one-*/chunk-00000*")
    assert not (r.path / "data" / "heatmaps" / "lime" / "one.h5").exists()
    (kept,) = r.path.glob("data/work/explain-lime-one-*/chunk-00000.npz")
    assert not (kept.parent / "chunk-00002.npz").exists()
    assert r.repro() >= stages("compare", "report")
    assert r.run("git", "status", "--porcelain") == ""
    assert list((r.path / "data" / "work").iterdir()) == []


def test_the_tables_say_what_a_slow_count_over_the_heatmaps_says(finished):
    data = finished.path / "data"
    params = finished.read()
    summary = json.loads((finished.path / "metrics" / "summary.json").read_text())
    table = pd.read_csv(finished.path / "plots" / "agreement.csv").set_index(["method", "network_a", "network_b"])
    fraction = params["agreement"]["top_fraction"]
    for method in params["methods"]:
        masks = {}
        for network in params["networks"]:
            with h5py.File(data / "heatmaps" / method / f"{network}.h5") as file:
                masks[network] = [slow_mask(heatmap, fraction) for heatmap in file["heatmaps"]]
        for a, b in itertools.combinations(params["networks"], 2):
            ious = [sum(map(min, x, y)) / sum(map(max, x, y)) for x, y in zip(masks[a], masks[b], strict=True)]
            row = table.loc[(method, a, b)]
            assert row["patches"] == len(ious)
            assert row["iou"] == pytest.approx(np.mean(ious), rel=1e-5)
            dice = [2 * iou / (1 + iou) for iou in ious]
            assert row["kappa"] == pytest.approx(np.mean([(d - fraction) / (1 - fraction) for d in dice]), abs=1e-5)
            assert summary["agreement"][method]["ceiling"] == pytest.approx(np.mean(ious), abs=1e-4)
    for network in params["networks"]:
        with h5py.File(data / "predictions" / f"{network}.h5") as file:
            logits, labels = file["test_logits"][:], file["test_labels"][:]
        wins = [(t > n) + (t == n) / 2 for t in logits[labels == 1] for n in logits[labels == 0]]
        assert summary["auroc"][network] == pytest.approx(np.mean(wins), abs=1e-4)


def slow_mask(heatmap: np.ndarray, fraction: float) -> list[float]:
    """The top fraction of the pixels, one by one; those that tie at the threshold share what is left."""
    pixels = [float(value) for value in heatmap.ravel()]
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
        ("compare", [f"--heatmaps={tmp_path}", "--agreement" + out], r"one\.h5 is missing; run"),
    ):
        status, said = r.stage(name, *arguments)
        assert status == 1
        assert re.fullmatch(r"error: [^\n]+\n", said), said
        assert re.search(words, said), said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "odd.yaml"]


def test_two_processes_explain_to_the_bytes_of_one(finished, tmp_path):
    raw = finished.read()
    raw["explain"]["devices"] = 2
    YAML().dump(raw, tmp_path / "params.yaml")
    arguments = ["--patches=data/patches", "--checkpoint=data/checkpoints/one.safetensors"]
    arguments += [f"--params={tmp_path / 'params.yaml'}", f"--heatmaps={tmp_path / 'lime.h5'}"]
    status, said = finished.stage("explain", "lime", "one", *arguments)
    assert status == 0, said
    assert (tmp_path / "lime.h5").read_bytes() == (finished.path / "data/heatmaps/lime/one.h5").read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_ends_the_run_before_it_starts(finished):
    finished.change("device", value="cuda")
    said = finished.run("dvc", "repro", "train", check=False)
    assert "error: device is cuda but torch sees no GPU" in said
    finished.reset()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of real patches is not here")
def test_the_sample_of_real_patches_goes_through_the_whole_pipeline(tmp_path):
    def change(raw: dict) -> None:
        raw["train"]["epochs"] = 1
        raw["methods"] = ["saliency", "integrated_gradients", "lime"]
        raw["method"]["integrated_gradients"].update(nodes=2, max_nodes=4)

    r = Repository(tmp_path, SAMPLE, change)
    assert r.repro() == stages(
        "fetch",
        "train",
        "evaluate",
        "explain",
        "compare",
        "report",
        methods=("saliency", "integrated_gradients", "lime"),
    )
    summary = json.loads((tmp_path / "metrics" / "summary.json").read_text())
    assert summary["explained_patches"] == 6
    assert all(0 < found["ceiling"] < 1 for found in summary["agreement"].values())
    assert (tmp_path / "plots" / "figures" / "agreement.png").stat().st_size > 10_000


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


def test_every_stage_names_every_module_that_it_imports():
    graph = grimp.build_graph("pcam_agreement")
    for name, stage in YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"].items():
        module = re.search(r"-m (\S+)", stage["cmd"])[1]
        used = {module} | graph.find_upstream_modules(module)
        files = set()
        for used_module in used:
            path = Path("src", *used_module.split("."))
            files.add(f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py")
        documentation = {"src/pcam_agreement/__init__.py", "src/pcam_agreement/stages/__init__.py"}
        assert {dep for dep in stage["deps"] if dep.startswith("src/")} == files - documentation, name
