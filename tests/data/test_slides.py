"""What becomes of drawing slides when its processes are killed or interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from conftest import ROOT

ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src")}


class Fetch:
    """The stage fetch in a session of its own, once its worker processes draw."""

    def __init__(self, folder: Path) -> None:
        raw = YAML(typ="safe").load(ROOT / "params.yaml")
        raw["data"]["synthetic"] = {"slides": {"train": 40, "valid": 1, "test": 1}, "patches_per_slide": 8}
        YAML(typ="safe").dump(raw, folder / "params.yaml")
        self.folder = folder
        command = [sys.executable, "-m", "pcam_agreement.pipeline.fetch", "--out", "data/patches"]
        self.process = subprocess.Popen(
            command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | ENVIRONMENT
        )
        end = time.monotonic() + 60
        while not (self.workers() and self.drawing()) and time.monotonic() < end:
            time.sleep(0.05)
        self.children = psutil.Process(self.process.pid).children()

    def workers(self) -> list[psutil.Process]:
        workers = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
        return workers

    def drawing(self) -> bool:
        return any(child.cpu_times().user > 1.5 for child in self.workers())

    def ends(self) -> tuple[int, str]:
        """The exit status and what is on stderr, once no process is left."""
        _, error = self.process.communicate(timeout=60)
        _, alive = psutil.wait_procs(self.children, 30)
        assert not alive
        return self.process.returncode, error


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


def test_a_killed_worker_ends_the_stage_with_a_sentence(fetch: Fetch) -> None:
    fetch.workers()[-1].kill()
    status, error = fetch.ends()
    assert status == 1 and error.startswith(
        "error: a process that makes patches was killed, probably because the memory"
    )
    assert error.count("\n") == 1
    assert not list((fetch.folder / "data").iterdir())


@pytest.mark.parametrize("to", [os.killpg, os.kill], ids=["all processes", "the stage alone"])
def test_an_interrupt_leaves_no_process_and_no_folder(fetch: Fetch, to) -> None:
    to(fetch.process.pid, signal.SIGINT)
    assert fetch.ends() == (130, "\ninterrupted; run the same command again to continue.\n")
    assert not list((fetch.folder / "data").iterdir())


def test_a_killed_stage_leaves_no_process(fetch: Fetch) -> None:
    fetch.process.kill()
    assert fetch.ends()[0] == -signal.SIGKILL
