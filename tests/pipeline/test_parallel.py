"""Stages side by side: the bytes of a serial run, whatever is killed, cut or fails."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from dvc.dependency import param
from dvc.fs import LocalFileSystem
from dvc.lock import make_lock
from dvc.repo import Repo

from pcam_agreement.pipeline import commands, parallel
from pcam_agreement.pipeline.forks import Forks
from pcam_agreement.pipeline.lock import Lock
from repository import ROOT, Toy, until

pytestmark = pytest.mark.slow


class Run:
    """The command, running in a repository with two workers and as a process group of its own."""

    def __init__(self, toy: Toy, module: str = "parallel", *arguments: str) -> None:
        self.toy, self.output = toy, toy.sign("output")
        line = ["python", "-m", f"pcam_agreement.pipeline.{module}", *arguments, "--workers", "2"]
        environment = {**toy.environment, "PYTHONPATH": str(ROOT / "src")}
        with open(self.output, "w") as output:
            streams = {"stdout": output, "stderr": subprocess.PIPE, "text": True}
            self.process = subprocess.Popen(line, cwd=toy.path, env=environment, start_new_session=True, **streams)

    def end(self) -> tuple[int, str, str]:
        _, error = self.process.communicate(timeout=300)
        return self.process.returncode, self.output.read_text(), error

    def stage(self, name: str) -> psutil.Process:
        """The process of this stage's command, which must run."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if process.cmdline()[:3] == ["python", "stage.py", name]:
                return process
        raise AssertionError(f"{name} does not run")


@pytest.fixture
def run() -> Iterator[Callable[..., Run]]:
    """Starts the command in a repository; a test that fails leaves none behind."""
    runs: list[Run] = []

    def start(*arguments) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield start
    for its in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(its.process.pid, signal.SIGKILL)
        print(*its.end(), sep="\n")  # shown where the test failed, as is what the stages said
        for log in sorted((its.toy.path / "data" / "work" / "logs").glob("*.log")):
            print(log.name, log.read_text(), sep="\n")


def cache(toy: Toy) -> dict[str, bytes]:
    folder = toy.path / ".dvc" / "cache"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begin(run: Callable[..., Run], folder: Path) -> tuple[Toy, Toy, Run]:
    """A repository after a serial run; one where the command waits in a and b; the command."""
    serial, side = (Toy(folder / name, "a", "b", "c") for name in ("serial", "side"))
    serial.repro()
    for name in ("a", "b"):
        side.sign(f"hold-{name}").touch()
    command = run(side)
    for name in ("a", "b"):
        until(side.sign(f"begun-{name}").exists, f"train@{name} runs")
    return serial, side, command


def end_b_then_a(side: Toy) -> None:
    for name in ("b", "a"):
        side.sign(f"hold-{name}").unlink()
        until(lambda name=name: f"train@{name}:" in side.lock().decode(), f"train@{name} is in dvc.lock")


def assert_same(serial: Toy, side: Toy, command: Run) -> None:
    status, printed, error = command.end()
    assert status == 0, error
    assert (side.lock(), side.made(), cache(side)) == (serial.lock(), serial.made(), cache(serial))
    assert side.repro() == set()
    assert max(map(len, printed.splitlines())) <= 80


def in_process(
    toy: Toy, executor: Executor, gpus: list[str], monkeypatch: pytest.MonkeyPatch, forks: Forks | None = None
) -> parallel.Pipeline:
    """The pipeline of a repository, run on this executor with four workers and these GPUs."""
    monkeypatch.chdir(toy.path)
    logs = toy.path / "data" / "work" / "logs"
    logs.mkdir(parents=True)
    with Repo() as repo:
        pipeline = parallel.Pipeline(repo, Lock(toy.path / "dvc.lock", logs.parent / "dvc.lock"), logs)
        pipeline.gpus, pipeline.forks = gpus, forks
        pipeline.run(executor, workers=4)
    return pipeline


def test_stages_that_end_out_of_order_change_no_byte_of_the_lock_and_the_cache(run, tmp_path):
    serial, side, command = begin(run, tmp_path)
    end_b_then_a(side)
    assert_same(serial, side, command)
    assert sorted(side.ran()) == ["a", "b", "c", "fetch", "report"]


def test_after_a_kill_the_next_run_waits_for_what_still_runs_and_ends_in_the_same_bytes(run, tmp_path):
    serial, side, command = begin(run, tmp_path)
    a, b = command.stage("a"), command.stage("b")
    command.process.kill()
    command.process.wait()  # DVC takes an ended process that nobody collected for alive
    a.kill()
    again = run(side)
    until(lambda: "train@b of a killed run still runs" in again.output.read_text(), "the next run waits")
    assert b.is_running()
    side.sign("begun-a").unlink()
    side.sign("hold-b").unlink()
    until(side.sign("begun-a").exists, "train@a runs again")
    side.sign("hold-a").unlink()
    assert again.end()[0] == 0
    assert (side.lock(), side.made(), cache(side)) == (serial.lock(), serial.made(), cache(serial))
    assert sorted(side.ran()) == ["a", "a", "b", "b", "c", "fetch", "report"]


def test_ctrl_c_starts_nothing_more_and_says_that_the_run_can_go_on(run, tmp_path):
    serial, side, command = begin(run, tmp_path)
    os.killpg(command.process.pid, signal.SIGINT)
    status, printed, error = command.end()
    assert (status, error) == (130, "\ninterrupted; run the same command again to continue.\n")
    assert "interrupted: 2 running stages end first" in printed
    assert sorted(side.ran()) == ["a", "b", "fetch"]
    for name in ("a", "b"):
        side.sign(f"hold-{name}").unlink()
    assert_same(serial, side, run(side))
    assert sorted(side.ran()) == ["a", "b", "c", "report"]


def test_what_a_failed_stage_does_not_hinder_is_finished_and_the_rest_is_named(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    toy.sign("fail-a").touch()
    status, printed, error = run(toy).end()
    assert status == 1
    assert re.search(r"error: failed: train@a; not run for want of it: report; see \S+logs, .* run again\.\n$", error)
    assert "this stage was told to fail" in error
    assert sorted(toy.ran()) == ["a", "b", "fetch"]
    toy.sign("fail-a").unlink()
    status, printed, error = run(toy).end()
    assert (status, toy.ran()) == (0, ["a", "report"]), error
    assert re.search(r"  4/4  2 up to date, 2 done in \d+ s$", printed)


def test_a_stage_that_was_run_before_comes_from_the_run_cache(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a")
    assert run(toy).end()[0] == 0
    before, _ = toy.lock(), toy.ran()
    for value, expected in ((2, ["a"]), (1, [])):  # whose output is the same
        toy.change("network", "a", "lr", value=value)
        status, printed, error = run(toy).end()
        assert (status, toy.ran()) == (0, expected), error
    assert "train@a: from the run-cache" in printed
    assert toy.lock() == before


def test_a_lock_that_was_cut_anywhere_is_completed_from_a_copy_or_the_last_commit(tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    toy.repro()
    toy.commit()
    whole, path, copy = toy.lock().decode(), toy.path / "dvc.lock", tmp_path / "copy"
    planned = list(Lock(path, copy).entries)
    assert len(planned) == 4
    for length in range(0, len(whole), 3):
        copy.write_text(whole if length % 2 else "")
        path.write_text(whole[:length])
        Lock(path, copy).restored(planned)
        assert path.read_text() == whole


def test_a_cut_lock_is_restored_before_anything_runs(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    assert run(toy).end()[0] == 0
    whole, _ = toy.lock(), toy.ran()
    for length in (whole.index(b"  train@b:"), whole.index(b"  train@b:") + 40, 0):
        (toy.path / "dvc.lock").write_bytes(whole[:length])
        status, printed, error = run(toy).end()
        assert (status, toy.lock(), toy.ran()) == (0, whole, []), error
        assert "dvc.lock had been cut short" in printed


def test_a_lock_with_the_marks_of_a_merge_is_refused_in_one_sentence(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a")
    toy.repro()
    (toy.path / "dvc.lock").write_text(toy.lock().decode() + "<<<<<<< HEAD\n")
    sentence = "error: dvc.lock: unexpected line '<<<<<<< HEAD'; after a merge see docs/sharing.md.\n"
    assert run(toy).end()[::2] == (1, sentence)


def test_recipes_that_are_left_empty_and_an_old_file_are_one_sentence(run, raw, tmp_path):
    toy = Toy(tmp_path / "repository", "a")
    sentences = {
        "recipes": "recipes: expected a list, each the name of a block under network, found None.\n",
        "networks": "networks is now `recipes`, blocks of `network`, and `trainings`, their seeds and untrained; "
        "CHANGELOG.md says how an old file is brought over.\n",
    }
    old = {key: value for key, value in raw.items() if key != "recipes"}
    for key, content in {"recipes": {**raw, "recipes": None}, "networks": {**old, "networks": ["a"]}}.items():
        toy.write(content)
        status, _, error = run(toy).end()
        assert status == 1
        assert error == f"error: params.yaml: {sentences[key]}"


def test_entries_of_stages_that_are_gone_are_dropped(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    toy.repro()
    toy.commit()
    toy.change("recipes", value=["a"])
    status, printed, error = run(toy).end()
    assert status == 0, error
    assert "no longer has, dropped: 1\n" in printed
    assert "train@b" not in toy.lock().decode()


def test_an_experiment_is_run_saved_and_listed_and_the_commit_can_be_had_back(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a", "b")
    toy.repro()
    toy.commit()
    toy.ran()
    status, printed, error = run(toy, "experiment", "network.a.lr=7", "--name", "wider").end()
    assert (status, toy.ran()) == (0, ["a"]), error
    assert "git checkout . && dvc checkout" in printed
    assert re.search(r"^wider,.*,7,1,", toy.run("dvc", "exp", "show", "--csv"), re.M | re.S)
    assert "wider exists" in run(toy, "experiment", "--name", "wider").end()[2]
    assert "one value each" in run(toy, "experiment", "network.a.lr=7,8", "--name", "wide").end()[2]
    assert "Could not override 'network.a.lrr'" in run(toy, "experiment", "network.a.lrr=7", "--name", "wide").end()[2]
    toy.run("git", "checkout", ".")
    toy.run("dvc", "checkout")
    assert "up to date" in toy.run("dvc", "status")


def test_it_waits_for_another_dvc_process_and_says_so(run, tmp_path):
    toy = Toy(tmp_path / "toy", "a")
    (toy.path / ".dvc" / "tmp").mkdir()
    with make_lock(str(toy.path / ".dvc" / "tmp" / "lock")) as _:
        command = run(toy)
        until(lambda: "waiting for another DVC process" in command.output.read_text(), "it says that it waits")
    assert command.end()[0] == 0


class Counting(ThreadPoolExecutor):
    """Threads that count how many of the stages that train run at once, and keep what these are given."""

    def __init__(self) -> None:
        super().__init__(4)
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.environments: list[dict] = []
        self.forked: dict[str, bool] = {}  # by stage, whether its command may be a fork

    def submit(self, function, lines, folder, environment, log, forks) -> Future:
        def counted() -> int:
            trains = "train" in log.name
            with self.lock:
                self.now += trains
                self.most = max(self.most, self.now)
            status = function(lines, folder, environment, log, forks)
            with self.lock:
                self.now -= trains
            return status

        self.environments.append(environment)
        self.forked[log.stem] = forks is not None
        return super().submit(counted)


@pytest.mark.parametrize(("gpus", "most"), [([], 4), (["3"], 1), (["3", "GPU-5"], 2)])
def test_each_gpu_has_one_stage_at_a_time(gpus, most, tmp_path, monkeypatch):
    toy = Toy(tmp_path / "toy", "a", "b", "c", "d")
    held = [toy.sign(f"hold-{name}") for name in "abcd"]
    for sign in held:
        sign.touch()

    def go_on() -> None:
        until(lambda: len(list(toy.path.glob("data/begun-[abcd]"))) == most, f"{most} stages run at once")
        for sign in held:
            sign.unlink()

    other = threading.Thread(target=go_on)
    other.start()
    with Counting() as executor:
        in_process(toy, executor, gpus, monkeypatch)
    other.join()
    assert executor.most == most
    given = {environment.get("CUDA_VISIBLE_DEVICES") for environment in executor.environments}
    assert given == ({None, *gpus} if len(gpus) > 1 else {None})


def test_a_stage_that_computes_on_several_gpus_gets_them_and_leaves_others_the_rest(tmp_path, monkeypatch):
    toy = Toy(tmp_path / "toy", "a", "b", "c")
    for name, devices in (("a", 2), ("b", 1), ("c", 9)):
        toy.change("network", name, "devices", value=devices)
    toy.sign("hold-a").touch()
    toy.sign("hold-b").touch()

    def go_on() -> None:
        until(lambda: len(list(toy.path.glob("data/begun-[ab]"))) == 2, "a and b run at once")
        toy.sign("hold-a").unlink()
        toy.sign("hold-b").unlink()

    other = threading.Thread(target=go_on)
    other.start()
    with Counting() as executor:
        in_process(toy, executor, ["3", "5", "7"], monkeypatch)
    other.join()
    assert executor.most == 2
    found = {environment.get("CUDA_VISIBLE_DEVICES") for environment in executor.environments}
    assert found == {None, "3,5", "7", "3,5,7"}


@pytest.mark.parametrize("started", [False, True])
def test_a_stage_without_torch_is_forked_only_from_a_process_that_is_there_already(started, tmp_path, monkeypatch):
    forks = Forks()
    forks.started = started
    with Counting() as executor:
        in_process(Toy(tmp_path / "toy", "a"), executor, [], monkeypatch, forks)
    assert executor.forked == {"fetch": started, "train@a": True, "report": started}


def test_gpus_are_those_that_the_environment_leaves(monkeypatch):
    for visible, gpus in (("", []), ("-1", []), ("3", ["3"]), ("3,GPU-5", ["3", "GPU-5"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert commands.gpus_here() == gpus


def test_what_a_lost_worker_ran_is_run_again_by_another(tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    toy = Toy(tmp_path / "toy", "a")
    toy.sign("hold-a").touch()

    def lose(worker: psutil.Process) -> None:
        until(toy.sign("begun-a").exists, "train@a runs")
        for lost in (worker, *worker.children(recursive=True)):  # there may be a shell between it and the command
            lost.kill()
        toy.sign("hold-a").unlink()

    monkeypatch.setenv("PATH", toy.environment["PATH"])
    with LocalCluster("127.0.0.1", 1, 1, memory_limit=0, dashboard_address=None) as cluster, Client(cluster) as client:
        (worker,) = client.run(os.getpid).values()
        killer = threading.Thread(target=lose, args=(psutil.Process(worker),))
        killer.start()
        in_process(toy, commands.DaskExecutor(client), [], monkeypatch)
        killer.join()
    assert toy.ran() == ["fetch", "a", "a", "report"]


def test_params_are_parsed_again_only_where_they_have_changed(tmp_path):
    path, fs = tmp_path / "params.yaml", LocalFileSystem()
    path.write_text("lr: 1\n")
    with contextlib.ExitStack() as stack:
        parallel._parse_params_once(stack)
        first = param.load_path(str(path), fs)
        assert param.load_path(str(path), fs) is first == {"lr": 1}
        path.write_text("lr: 0.5\n")
        assert param.load_path(str(path), fs) == {"lr": 0.5}
    assert param.load_path(str(path), fs) is not param.load_path(str(path), fs)


def test_a_run_with_nothing_to_do_imports_nothing_heavy(tmp_path, monkeypatch):
    toy = Toy(tmp_path / "toy", "a")
    toy.repro()
    code = (
        "import sys; from argparse import Namespace; from pcam_agreement.pipeline import parallel\n"
        "parallel.main(Namespace(workers=2, slurm=False))\n"
        "print({'torch', 'pandas', 'pydantic', 'distributed', 'dask', 'matplotlib'} & sys.modules.keys())"
    )
    assert toy.run("python", "-c", code).endswith("3 up to date in 0 s\nset()\n")
