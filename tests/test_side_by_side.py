"""Stages side by side on real workers: the bytes of a serial run, whatever is killed or fails."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pcam_agreement import side_by_side
from repository import ROOT, Toy

pytestmark = pytest.mark.slow


class Run:
    """The command, running in a repository with two workers."""

    def __init__(self, toy: Toy) -> None:
        self.logs = toy.path / "data" / "work" / "logs"
        self.process = subprocess.Popen(
            ["python", "-m", "pcam_agreement.side_by_side", "--workers", "2"],
            cwd=toy.path,
            env={**toy.environment, "PYTHONPATH": str(ROOT / "src")},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self) -> tuple[int, str, str]:
        said, error = self.process.communicate(timeout=300)
        return self.process.returncode, said, error

    def stage(self, name: str) -> psutil.Process:
        """The process of DVC that runs this stage, once it does."""
        found: list[psutil.Process] = []

        def begun() -> bool:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    if process.cmdline()[-1:] == [name]:
                        found.append(process)
            return bool(found)

        until(begun, f"DVC begins {name}")
        return found[0]


@pytest.fixture
def run() -> Iterator[Callable[[Toy], Run]]:
    """Starts the command in a repository; a test that fails leaves none behind."""
    runs: list[Run] = []

    def start(toy: Toy) -> Run:
        runs.append(Run(toy))
        return runs[-1]

    yield start
    for its in runs:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*psutil.Process(its.process.pid).children(recursive=True), its.process):
                process.kill()
        print(*its.process.communicate(), sep="\n")  # shown where the test failed, as is what the stages said
        for log in sorted(its.logs.glob("*.log")):
            print(log.name, log.read_text(), sep="\n")


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(6000):  # five minutes: a busy machine takes a minute to start a worker, DVC and the stage
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within five minutes: {what}")


def cache(toy: Toy) -> dict[str, bytes]:
    folder = toy.path / ".dvc" / "cache"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begin(run: Callable[[Toy], Run], folder: Path) -> tuple[Toy, Toy, Run, list[psutil.Process]]:
    """A repository after a serial run; one where the command waits in a and b; the command; their processes of DVC."""
    serial, side = (Toy(folder / name, "a", "b", "c") for name in ("serial", "side"))
    serial.repro()
    for name in ("a", "b"):
        side.sign(f"hold-{name}").touch()
    command = run(side)
    stages = [command.stage(f"train@{name}") for name in ("a", "b")]
    for name in ("a", "b"):
        until(side.sign(f"begun-{name}").exists, f"train@{name} runs")
    return serial, side, command, stages


def end_b_then_a(side: Toy) -> None:
    for name in ("b", "a"):
        side.sign(f"hold-{name}").unlink()
        until(lambda name=name: f"train@{name}:" in side.lock().decode(), f"train@{name} is in dvc.lock")


def assert_same(serial: Toy, side: Toy, command: Run) -> None:
    status, said, error = command.end()
    assert status == 0, error
    assert len(re.findall(": (?:done|up to date)", said)) == 5
    assert (side.lock(), side.made(), cache(side)) == (serial.lock(), serial.made(), cache(serial))
    assert side.repro() == set()


def test_stages_that_end_out_of_order_change_no_byte_of_the_lock_and_the_cache(run, tmp_path):
    serial, side, command, _ = begin(run, tmp_path)
    end_b_then_a(side)
    assert_same(serial, side, command)
    assert sorted(side.ran()) == ["a", "b", "c", "fetch", "report"]


@pytest.mark.by_hand  # it leaves a stage without a parent, which not every container lets live
def test_killed_workers_and_a_later_end_change_no_byte_of_the_lock_and_the_cache(run, tmp_path):
    serial, side, command, (a, b) = begin(run, tmp_path)
    for process in (a.parent(), *a.children(recursive=True), a):  # as if the machine had died
        os.kill(process.pid, signal.SIGKILL)
    os.kill(b.parent().pid, signal.SIGKILL)  # its stage lives on
    end_b_then_a(side)
    assert_same(serial, side, command)
    assert sorted(side.ran()) == ["a", "a", "b", "c", "fetch", "report"]


def test_what_a_failed_stage_does_not_hinder_is_finished_and_the_rest_is_named(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    toy.sign("fail-a").touch()
    status, said, error = run(toy).end()
    assert status == 1
    assert re.search(r"error: failed: train@a; not run for want of it: report; see \S+logs, .* run again\.\n$", error)
    assert "this stage was told to fail" in error
    assert sorted(toy.ran()) == ["a", "b", "fetch"]
    toy.sign("fail-a").unlink()
    status, said, error = run(toy).end()
    assert (status, toy.ran()) == (0, ["a", "report"]), error
    assert len(re.findall(": up to date", said)) == 2


def test_gpus_are_shared_out_where_there_are_several(monkeypatch):
    for visible, gpus in (("", []), ("3", []), ("3,GPU-5", ["3", "GPU-5"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert side_by_side.gpus_here() == gpus
