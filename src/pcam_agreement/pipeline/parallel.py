"""The pipeline, with stages that do not need each other side by side on all cores; goes on where it was stopped.

python -m pcam_agreement.pipeline.parallel
python -m pcam_agreement.pipeline.parallel --workers 8 --slurm

This process does what is DVC's, one stage at a time and in DVC's own calls: what is out of date, the run-cache, saving
outputs and dvc.lock, which end in the bytes of `dvc repro`. Only the commands run side by side, in threads of this
process or in SLURM jobs. Stages that do not need a failed one are finished.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from pcam_agreement.core import command, resume
from pcam_agreement.pipeline import commands
from pcam_agreement.pipeline.forks import Forks
from pcam_agreement.pipeline.given import of_stage
from pcam_agreement.pipeline.lock import Lock

UP_TO_DATE, DONE, RESTORED, FAILED, NOT_RUN = "up to date", "done", "from the run-cache", "failed", "not run"
WITHOUT_TORCH = ("fetch", "compare", "compare_methods", "report", "atlas")
CPU_ONLY = ("check", *WITHOUT_TORCH)  # stages that wait for no GPU
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(args: Namespace) -> None:
    repro(args)


def repro(args: Namespace) -> list[str]:
    """Bring the pipeline up to date; its stages in the order of `dvc repro`. Raises ValueError where one has failed."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.rwlock import rwlock

    if args.workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {args.workers}.")
    try:
        with Repo() as repo, ExitStack() as stack:
            _parse_params_once(stack)
            hardlink = repo.config["core"].get("hardlink_lock", False)
            whole = [repo.root_dir]  # no other DVC process works on these files meanwhile
            _enter(stack, lambda: rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], whole, hardlink))
            work = Path(repo.root_dir) / resume.place()
            logs = work / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            commands.wait_for_orphans(logs)
            pipeline = Pipeline(repo, Lock(Path(repo.root_dir) / "dvc.lock", work / "dvc.lock"), logs)
            if args.slurm:
                pipeline.environment = commands.threads_here()
                executor = stack.enter_context(commands.slurm(args.workers, logs))
            else:
                pipeline.gpus = _gpus()
                pipeline.forks = Forks() if sys.platform == "linux" and not pipeline.gpus else None
                executor = stack.enter_context(ThreadPoolExecutor(args.workers))
            pipeline.run(executor, args.workers)
            return pipeline.lock.planned
    except DvcException as error:
        raise ValueError(str(error)) from error


class Pipeline:
    """The stages of DVC's graph: which wait, which run, and how the others ended."""

    def __init__(self, repo: Any, lock: Lock, logs: Path) -> None:
        from dvc.parsing import ResolveError
        from dvc.repo.reproduce import get_active_graph, plan_repro

        self.repo, self.lock, self.logs = repo, lock, logs
        self.gpus: list[str] = []
        self.environment: commands.Environment = {}
        self.forks: Forks | None = None
        while True:
            with self.locked():
                try:
                    graph = get_active_graph(repo.index.graph)
                except (ResolveError, TypeError):  # DVC's answers to a matrix of a list that is missing or left empty
                    from pcam_agreement.core.settings import read_params, section
                    from pcam_agreement.networks.recipes import networks

                    raw = read_params()
                    networks(raw)
                    section(raw, "methods", list[str])
                    raise
            planned = plan_repro(graph)
            if not lock.restored([stage.addressing for stage in planned]):
                break
        lock.drop_stale()
        self.needs = {stage: list(graph.successors(stage)) for stage in planned}
        chain: dict[Any, int] = {}  # stages one after the other that wait for this one: the longest starts first
        for stage in reversed(planned):
            chain[stage] = max((chain[other] + 1 for other in graph.predecessors(stage)), default=0)
        self.waiting = sorted(planned, key=lambda stage: -chain[stage])
        self.running: dict[Future[int], tuple[Any, list[str], float]] = {}  # stage, GPUs, start
        self.ended: dict[Any, str] = {}

    def locked(self) -> ExitStack:
        """DVC's lock on the repository, held while DVC works and not while commands run."""
        from dvc.repo import lock_repo

        stack = ExitStack()
        _enter(stack, lambda: lock_repo(self.repo))
        return stack

    def run(self, executor: Executor, workers: int) -> None:
        """Run what is out of date, so many commands at once, one on a GPU. Raises ValueError where one failed."""
        start = time.monotonic()
        finished: set[Future[int]] = set()
        try:
            while self.waiting or self.running:
                with self.locked():
                    for future in finished:
                        self.finish(future)
                    for stage in list(self.waiting):
                        if len(self.running) < workers:
                            self.start(stage, executor)
                finished = wait(self.running, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt:
            self.tell(f"interrupted: {len(self.running)} running stages end first")
            wait(self.running)
            with self.locked():
                for future in list(self.running):
                    if future.exception() is None and future.result() == 0:
                        self.finish(future)
            raise
        counts = Counter(self.ended.values())
        self.tell(f"{', '.join(f'{counts[state]} {state}' for state in counts)} in {time.monotonic() - start:.0f} s")
        failed, hindered = (
            [stage.addressing for stage in self.needs if self.ended[stage] == state] for state in (FAILED, NOT_RUN)
        )
        if failed:
            them = "it" if len(failed) == 1 else "them"
            rest = f"; not run for want of {them}: {', '.join(hindered)}" if hindered else ""
            raise ValueError(f"failed: {', '.join(failed)}{rest}; see {self.logs}, mend it and run again.")

    def start(self, stage: Any, executor: Executor) -> None:
        """Start the command of this stage if it has to run and can; in the steps of DVC's Stage.reproduce."""
        from dvc.exceptions import DvcException
        from dvc.stage.cache import RunCacheNotFoundError

        states = {self.ended.get(need) for need in self.needs[stage]}
        gpus: list[str] = []
        environment, forks, kind = self.environment, self.forks, stage.addressing.partition("@")[0]
        if forks and not forks.started and kind in WITHOUT_TORCH:
            forks = None  # where nothing else runs, to import torch would take longest
        if None in states:
            return
        if self.gpus and kind not in CPU_ONLY:
            used = {name for _, names, _ in self.running.values() for name in names}
            wanted = min(_devices(stage), len(self.gpus))
            gpus = [name for name in self.gpus if name not in used][:wanted]
            if len(gpus) < wanted:
                return
            environment = environment | ({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if len(self.gpus) > 1 else {})
        self.waiting.remove(stage)
        try:
            if not states <= {UP_TO_DATE, DONE, RESTORED}:
                return self.end(stage, NOT_RUN)
            if stage.frozen or not stage.cmd:  # there is nothing to run; DVC checks what is there
                if stage.reproduce():
                    stage.dump(update_pipeline=False)
                return self.end(stage, UP_TO_DATE)
            if not _changed(stage):
                said = of_stage(stage)
                return self.end(stage, FAILED if said else UP_TO_DATE, details=said)
            stage.remove_outs()
            try:
                self.repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                stage.save_deps()
                log = self.logs / f"{stage.addressing}.log"
                future = executor.submit(commands.run, *commands.command(stage, environment), log, forks)
                self.running[future] = stage, gpus, time.monotonic()
                self.tell(f"{stage.addressing}: runs")
            else:
                self.save(stage)
                self.end(stage, RESTORED)
        except (DvcException, OSError) as error:
            self.end(stage, FAILED, details=str(error))

    def finish(self, future: Future[int]) -> None:
        """Save what the command of a stage has made; in the steps of DVC's Stage.run."""
        from dvc.exceptions import DvcException

        stage, _, start = self.running.pop(future)
        seconds = f" in {time.monotonic() - start:.0f} s"
        log = self.logs / f"{stage.addressing}.log"
        try:
            if lost := future.exception():  # its SLURM job was, more often than Dask allows
                self.end(stage, FAILED, seconds, str(lost))
            elif future.result() != 0:
                self.end(stage, FAILED, seconds, "\n".join(log.read_text(errors="replace").splitlines()[-10:]))
            else:
                self.save(stage)
                self.end(stage, DONE, seconds)
        except (DvcException, OSError) as error:
            self.end(stage, FAILED, seconds, str(error))

    def save(self, stage: Any) -> None:
        """Save a stage's outputs in the cache, the run in the run-cache if DVC would, and its entry of dvc.lock."""
        stage.save(run_cache=all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs))
        stage.commit()
        self.lock.record(stage)

    def end(self, stage: Any, state: str, seconds: str = "", details: str = "") -> None:
        self.ended[stage] = state
        if state != UP_TO_DATE:
            self.tell(f"{stage.addressing}: {state}{seconds}")
        for line in details.splitlines():
            print(f"    {line}", file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        print(f"{time.strftime('%X')}  {len(self.ended)}/{len(self.needs)}  {text}", flush=True)


def _devices(stage: Any) -> int:
    """On how many devices the command of a stage computes: the setting of a recipe, of `train` or of `explain`."""
    from dvc.dependency import ParamsDependency

    kind = stage.addressing.partition("@")[0]
    if kind not in ("train", "explain"):
        return 1
    read: dict[str, Any] = {}
    for dep in stage.deps:
        read |= dep.read_params() if isinstance(dep, ParamsDependency) else {}
    sections = [section for key, section in read.items() if key.startswith("network.")] + [read.get(kind)]
    return next((int(section["devices"]) for section in sections if section and "devices" in section), 1)


def _changed(stage: Any) -> bool:
    """DVC's Stage.changed, without its locks on single files, which cost as much again: `repro` holds one on all."""
    return bool(
        stage.is_callback
        or stage.always_changed
        or stage.changed_stage()
        or any(item.status() for item in (*stage.deps, *stage.outs))
    )


def _parse_params_once(stack: ExitStack) -> None:
    """Have DVC parse params.yaml again only where it has changed: by itself it does so several times for each stage."""
    from dvc.dependency import param

    load = param.load_path
    parsed: dict[str, tuple[tuple[int, int, int], Any]] = {}

    def load_once(path: str, fs: Any) -> Any:
        file = os.stat(path)
        version = file.st_ino, file.st_mtime_ns, file.st_size
        if path not in parsed or parsed[path][0] != version:
            parsed[path] = version, load(path, fs)
        return parsed[path][1]

    stack.callback(setattr, param, "load_path", load)
    param.load_path = load_once


def _enter(stack: ExitStack, lock: Callable[[], AbstractContextManager[None]]) -> None:
    """Take a lock of DVC's; where another process has it, say so and wait."""
    from dvc.lock import LockError

    told = False
    while True:
        try:
            return stack.enter_context(lock())
        except LockError as error:
            if not told:
                print(f"waiting for another DVC process: {' '.join(str(error).split())}", flush=True)
            told = True
            time.sleep(1)


def _gpus() -> list[str]:
    """The GPUs that stages will use: none with `device: cpu` or a torch that knows none."""
    from dvc.utils.serialize import load_yaml

    gpus = commands.gpus_here()
    unused = gpus and (metadata.version("torch").endswith("+cpu") or load_yaml("params.yaml").get("device") == "cpu")
    return [] if unused else gpus


def add_arguments(parser: ArgumentParser) -> None:
    """--workers and --slurm."""
    parser.add_argument("--workers", type=int, default=CORES, help="stages side by side; all cores by default")
    parser.add_argument("--slurm", action="store_true", help="workers are SLURM jobs as Dask's jobqueue.yaml says")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    command.run(main, parser)
