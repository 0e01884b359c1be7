"""Commands of stages as forks: they end as they would in the shell, and what is not one of them is left to it."""

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from pcam_agreement.pipeline.commands import run
from pcam_agreement.pipeline.forks import SERVER_LOST, Forks
from repository import ROOT

STAGE = "OMP_NUM_THREADS=1 PYTHONPATH=src python -m pcam_agreement.pipeline."
FILES = "--patches data/patches --checkpoint none.safetensors --heatmaps none.h5"


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


def ends(command: str, log: Path, forks: Forks | None, **environment: str) -> tuple[int, str]:
    status = run([["/bin/sh", "-c", command]], str(ROOT), dict(environment), log, forks)
    return status, log.read_text()


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("explain --help", 0, "a file of attribution/methods"),
        ("explain saliency", 2, "the following arguments are required"),
        (f"explain saliency nobody 1 {FILES}", 1, "error: params.yaml: unknown recipe 'nobody'"),
        ("nothing", 1, "No module named"),
    ],
)
def test_a_fork_ends_and_writes_as_the_shell_would(command, status, text, forks, tmp_path):
    assert forks.fit(STAGE + command, str(ROOT))
    forked, in_shell = (ends(STAGE + command, tmp_path / "log", which) for which in (forks, None))
    assert (forked[0], text in forked[1]) == (status, True)
    if status != 1 or "error" in text:
        assert forked == in_shell


def test_a_fork_has_the_environment_that_it_is_given(forks, tmp_path):
    command = STAGE + f"explain saliency nobody 1 {FILES}"
    assert "Traceback" in ends(command, tmp_path / "log", forks, PCAM_AGREEMENT_TRACEBACK="1")[1]
    assert "Traceback" not in ends(command, tmp_path / "log", forks)[1]


def test_a_fork_that_is_killed_held_its_log_and_has_the_status_of_the_signal(forks, tmp_path):
    waits, log = tmp_path / "params.yaml", tmp_path / "log"
    os.mkfifo(waits)  # whoever reads it waits for somebody who writes
    command, result = STAGE + f"explain saliency test_resnet 1 --params {waits} {FILES}", []
    assert forks.fit(command, str(ROOT))
    ends(STAGE + "explain --help", log, forks)  # the process that imports is there from now on
    thread = threading.Thread(target=lambda: result.append(ends(command, log, forks)[0]))
    before = set(psutil.Process().children(recursive=True))
    thread.start()
    with open(waits, "w"):  # both ends are open now: the fork is at work
        with open(log) as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (fork,) = set(psutil.Process().children(recursive=True)) - before
        fork.send_signal(signal.SIGKILL)
        thread.join()
    assert result == [-signal.SIGKILL]


@pytest.mark.parametrize("before", [None, "7"])
def test_the_process_that_imports_has_the_threads_of_its_forks_also_after_it_was_killed(before, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    forks, log = Forks(), tmp_path / "log"
    for name in ("first.yaml", "second.yaml"):
        waits, result = tmp_path / name, []
        command = STAGE + f"explain saliency test_resnet 1 --params {waits} {FILES}"
        os.mkfifo(waits)  # whoever reads it waits for somebody who writes
        assert forks.fit(command, str(ROOT))
        of_this = (command, log, forks)
        thread = threading.Thread(target=lambda of=of_this, to=result: to.append(ends(*of)[0]), daemon=True)
        thread.start()
        with open(waits, "w"):  # both ends are open now: the fork is at work
            (server,) = (child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline()))
            assert server.environ()["OMP_NUM_THREADS"] == "1"
            server.kill()
            thread.join()
        while server.status() != psutil.STATUS_ZOMBIE:  # before, multiprocessing takes it for alive
            time.sleep(0.01)
        assert result == [SERVER_LOST]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_only_stages_of_this_code_with_these_threads_are_forked(forks, tmp_path):
    assert forks.fit(STAGE + "train test_resnet untrained_2 --patches data/patches", str(ROOT))
    assert not forks.fit(STAGE + "train a 1", str(tmp_path))  # another checkout
    for other in (
        STAGE.replace("=1", "=2") + "train a 1",
        STAGE + "train a 1 && rm -r data",
        STAGE + "train $HOME 1",
        STAGE.removeprefix("OMP_NUM_THREADS=1 ") + "report",
        "python stage.py a",
    ):
        assert not forks.fit(other, str(ROOT)), other
