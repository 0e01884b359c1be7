"""A repository of its own for a test: real git, real DVC, real stages, small parameters."""

import contextlib
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from dvc.repo import Repo
from PIL import Image
from ruamel.yaml import YAML
from threadpoolctl import threadpool_limits

from pcam_agreement.data.pcam import SPLITS, read_split
from pcam_agreement.pipeline import parallel

ROOT = Path(__file__).parents[1]


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(6000):  # five minutes, for a busy machine
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within five minutes: {what}")


def write_images(dataset: Path, folder: Path) -> Path:
    """The patches of a data set as image files in class folders below train, valid and test."""
    for name in SPLITS:
        split = read_split(dataset, name)
        for number, (patch, label) in enumerate(zip(split.patches, split.labels, strict=True)):
            path = folder / name / ("normal", "tumour")[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(patch)).save(path)
    return folder


class Repository:
    """A git and DVC repository with the project's pipeline and small parameters."""

    MAKE = ("python", "-m", "pcam_agreement.pipeline.parallel", "--workers", "1")

    def __init__(self, path: Path, images: Path, change: Callable[[dict], None] = lambda raw: None) -> None:
        self._begin(path)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, path / name)
        shutil.copytree(ROOT / "src", path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (path / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", path / ".dvc" / "config")
        shutil.copytree(ROOT / ".dvc" / "plots", path / ".dvc" / "plots")
        shutil.copy(ROOT / ".dvc" / "plots_page.html", path / ".dvc" / "plots_page.html")
        raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        raw["recipes"], raw["trainings"] = ["one", "two"], [1, 2]
        raw["methods"] = ["saliency", "lime"]
        raw["data"].update(source="folder", folder={**raw["data"]["folder"], "path": str(images)})
        raw["train"].update(epochs=2, batch_size=8)
        raw["network"] = {
            "one": {"architecture": "timm/test_efficientnet"},
            "two": {"architecture": "timm/test_byobnet"},
            "three": {"architecture": "timm/test_byobnet", "lr": 1e-3},
        }
        raw["explain"].update(patches=6, chunk=2, batch_size=8)
        raw["method"]["lime"].update(samples=12, max_samples=12, segments=9)
        raw["faithfulness"].update(patches=3, steps=2, rolls=1)
        raw["report"]["panels"] = 2
        change(raw)
        self.write(raw)
        self.run("git", "init", "-q")
        self.commit()

    def copy(self, path: Path) -> Self:
        """A copy of this repository with all of its data, hard links to the cache included."""
        subprocess.run(["cp", "-a", str(self.path), str(path)], check=True)
        return self.at(path)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The repository that is already there."""
        repository = cls.__new__(cls)
        repository._begin(path)
        return repository

    def _begin(self, path: Path) -> None:
        self.path, self.said = path, ""
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
        }

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

    def make(self) -> set[str]:
        """What `make repro` runs, which starts stages faster than `dvc repro`; the names of those that ran."""
        said = self.run("env", "PYTHONPATH=src", *self.MAKE)
        return set(re.findall(r"^[\d:]+  \d+/\d+  (\S+): runs$", said, re.MULTILINE))

    def repro_here(self) -> set[str]:
        """Run all stages in this process, so that they share the imports of torch; the names of the stages.

        Their commands and their order are DVC's, which then records the results as if it had run them.
        """
        said = self.run("dvc", "repro", "--dry", "--force")
        found = re.findall(r"^Running stage '([^']+)':\n> (.+)$", said, re.MULTILINE)
        for _, command in found:
            assert re.fullmatch(r"(\w+=\w+ )*python -m pcam_agreement\.pipeline\.\w+ .*", command), command
            self._run_here(*command[command.index(" -m ") + 4 :].split())
        self.run("dvc", "commit", "--force")
        return {name for name, _ in found}

    def _run_here(self, module: str, *arguments: str) -> None:
        """What `python -m` does, in this process, which has imported torch."""
        threads = torch.get_num_threads()
        with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
            patch.chdir(self.path)
            patch.setattr(sys, "argv", [module, *arguments])
            try:
                torch.set_num_threads(1)
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            finally:
                torch.set_num_threads(threads)

    def concerned(self) -> set[str]:
        """The stages that want to run, by what `make repro` asks of DVC: what `dvc status` says, in this process."""
        with contextlib.chdir(self.path), contextlib.ExitStack() as stack, Repo() as repo:
            parallel._parse_params_once(stack)
            return {stage.addressing for stage in repo.index.stages if parallel._changed(stage)}

    def kill_when(self, sign: str, command: Sequence[str] = ("dvc", "repro")) -> None:
        """Start the pipeline, or something else, and kill -9 all of it as soon as a path like this pattern exists."""
        process = self.start(*command)
        while not next(self.path.glob(sign), None):
            assert process.poll() is None, f"{command} ended before {sign} was there"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def start(self, *command: str) -> subprocess.Popen:
        """A command that runs as a process group of its own, in silence."""
        environment = {**self.environment, "PYTHONPATH": "src"}
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.path, env=environment, start_new_session=True, **silent)

    def stage(self, name: str, *arguments: str) -> tuple[int, str]:
        """Exit status and stderr of one stage, run without DVC."""
        environment = {**self.environment, "PYTHONPATH": "src"}
        command = self.stage_command(name, *arguments)
        done = subprocess.run(command, cwd=self.path, env=environment, text=True, capture_output=True)
        return done.returncode, done.stderr

    def stage_here(self, name: str, *arguments: str) -> tuple[int, str]:
        """The same in this process."""
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            try:
                self._run_here(f"pcam_agreement.pipeline.{name}", *arguments)
            except SystemExit as end:
                return int(end.code or 0), stderr.getvalue()
        return 0, stderr.getvalue()

    @staticmethod
    def stage_command(name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"pcam_agreement.pipeline.{name}", *arguments]

    def reset(self) -> None:
        """Back to the commit, without files of recipes that are not in it."""
        for leftover in self.path.glob("data/**/three*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")

    def lock(self) -> bytes:
        return (self.path / "dvc.lock").read_bytes()


class Toy(Repository):
    """A pipeline of the project's shape that trains nothing: fetch, train once a recipe, report.

    `ran` tells which stages were executed. The stage of a waits while the file hold-a is there, and fails if fail-a is.
    """

    PIPELINE = """
stages:
  fetch:
    cmd: python stage.py fetch data/patches
    outs: [data/patches]
  train:
    matrix: {recipe: "${recipes}"}
    cmd: python stage.py ${item.recipe} data/checkpoints/${item.recipe}
    params: ["network.${item.recipe}"]
    deps: [data/patches]
    outs: ["data/checkpoints/${item.recipe}"]
  report:
    cmd: python stage.py report metrics/summary.json data/checkpoints
    params: [recipes]
    deps: [data/checkpoints]
    metrics: [{metrics/summary.json: {cache: false}}]
"""
    STAGE = """
import json, pathlib, sys, time
name, out, *deps = sys.argv[1:]
pathlib.Path("data").mkdir(exist_ok=True)
with open("data/ran", "a") as ran:
    print(name, file=ran)
pathlib.Path(f"data/begun-{name}").touch()
while pathlib.Path(f"data/hold-{name}").exists():
    time.sleep(0.05)
if pathlib.Path(f"data/fail-{name}").exists():
    sys.exit("this stage was told to fail")
content = {path.name: path.read_text() for dep in deps for path in pathlib.Path(dep).iterdir()}
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
pathlib.Path(out).write_text(json.dumps({"made by": name} | content) + "\\n")
"""

    def __init__(self, path: Path, *recipes: str) -> None:
        self._begin(path)
        path.mkdir(parents=True)
        (path / "dvc.yaml").write_text(self.PIPELINE)
        (path / "stage.py").write_text(self.STAGE)
        (path / ".gitignore").write_text("/data/\n")
        (path / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", path / ".dvc" / "config")
        self.write({"recipes": list(recipes), "network": {name: {"lr": 1} for name in recipes}})
        self.run("git", "init", "-q", "-b", "main")
        self.commit()

    def clone(self, path: Path, source: Path | None = None) -> "Toy":
        """A clone of this repository, or of another one, without data."""
        self.run("git", "clone", "-q", str(source or self.path), str(path))
        return Toy.at(path)

    def made(self) -> dict[str, str]:
        """The outputs of all stages, by path."""
        files = [path for path in self.path.glob("data/[!w]*/*") if path.is_file()] + [self.path / "data" / "patches"]
        return {str(path.relative_to(self.path)): path.read_text() for path in files if path.exists()}

    def sign(self, name: str) -> Path:
        """A file that tells a stage something."""
        (self.path / "data").mkdir(exist_ok=True)
        return self.path / "data" / name

    def ran(self) -> list[str]:
        """The stages that were executed since this was asked last."""
        path = self.sign("ran")
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names


def stages(
    *names: str,
    recipes: tuple[str, ...] = ("one", "two"),
    trainings: tuple[str, ...] = ("1", "2"),
    methods: tuple[str, ...] = ("saliency", "lime"),
) -> set[str]:
    """features, train, explain, faithfulness and compare with their matrices, other names as they are."""
    result = set()
    for name in names:
        if name == "features":
            result |= {f"{name}@{recipe}" for recipe in recipes}
        elif name == "train":
            result |= {f"{name}@{recipe}-{training}" for recipe in recipes for training in trainings}
        elif name == "explain":
            result |= {f"{name}@{one}-{two}-{three}" for one, two, three in product(methods, recipes, trainings)}
        elif name == "faithfulness":
            result |= {f"{name}@{method}-{recipe}" for method in methods for recipe in recipes}
        elif name == "compare":
            result |= {f"compare@{method}" for method in methods}
        else:
            result.add(name)
    return result
