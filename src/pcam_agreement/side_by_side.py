"""`dvc repro` with stages that do not need each other side by side, as tasks of Dask on this machine or of SLURM.

python -m pcam_agreement.side_by_side --workers 2

Every stage is one `dvc repro --single-item`, in the order of DVC's own graph, so that dvc.lock and the cache end as
after `dvc repro`. What is up to date is skipped, and what a failed stage does not hinder is finished. A stage whose
worker is lost is run again by another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from pcam_agreement import command, resume

DONE, UP_TO_DATE, FAILED, NOT_RUN = "done", "up to date", "failed", "not run"
BUSY = "is busy, it is being blocked by"  # DVC, where another process works on the same files


def main(args: Namespace) -> None:
    try:
        import dask.config
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise ValueError(f"{error}; install what runs stages side by side: uv pip install -e '.[cluster]'.") from error
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    if args.workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {args.workers}.")
    repo = Repo(_wait_for_lock=True)
    with repo.lock:
        graph = get_active_graph(repo.index.graph)
    stages = plan_repro(graph)
    logs = (resume.place() / "logs").absolute()
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    # Dask gives its workers one thread each: a stage keeps the number it has under `dvc repro`, and so its bytes.
    threads = [*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED"]
    environment = {name: os.environ.get(name) for name in threads}
    cluster: Any  # security: who can send a task can run code, also another user of this machine
    if args.slurm:
        from dask_jobqueue import SLURMCluster

        cluster = SLURMCluster(security=True, shared_temp_directory=str(logs.parent), log_directory=str(logs))
        cluster.adapt(minimum=args.workers, maximum=args.workers)  # a job that ends is followed by another
        gpus: list[str] = []
    else:
        options = {"memory_limit": 0, "dashboard_address": None}
        cluster = LocalCluster("127.0.0.1", args.workers, 1, security=True, **options)
        gpus = gpus_here()
    needs = {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in stages}
    ended: dict[str, str] = {}

    def end(stage: str, state: str) -> None:
        ended[stage] = state
        print(f"{time.strftime('%X')}  {len(ended)}/{len(needs)}  {stage}: {state}", flush=True)

    try:
        with cluster, Client(cluster) as client:
            # What needs a stage is submitted when that has ended. In a graph of Dask's own, a lost worker would take
            # the states of ended stages along, and Dask would run those again.
            running, waiting = as_completed(), list(needs)
            while len(ended) < len(needs):
                for stage in [stage for stage in waiting if needs[stage] <= ended.keys()]:
                    waiting.remove(stage)
                    if {DONE, UP_TO_DATE}.issuperset(ended[other] for other in needs[stage]):
                        given = (stage, repo.root_dir, logs, environment, gpus)
                        running.add(client.submit(repro, *given, key=stage, pure=False))
                    else:
                        end(stage, NOT_RUN)
                if running.count():
                    future = next(running)
                    lost = future.exception()  # its worker was lost too often, or could not start DVC
                    end(future.key, FAILED if lost else future.result())
                    future.release()
                    if ended[future.key] == FAILED:
                        print(lost or _last_lines(logs / f"{future.key}.log"), file=sys.stderr, flush=True)
    finally:
        with repo.lock:
            _order_lock(Path(repo.root_dir), list(needs))
    of = {state: [name for name, its in ended.items() if its == state] for state in (FAILED, NOT_RUN)}
    if of[FAILED]:
        them = "it" if len(of[FAILED]) == 1 else "them"
        not_run = f"; not run for want of {them}: {', '.join(of[NOT_RUN])}" if of[NOT_RUN] else ""
        raise ValueError(f"failed: {', '.join(of[FAILED])}{not_run}; see {logs}, mend it and run again.")


def repro(stage: str, root: str, logs: Path, environment: dict[str, str | None], gpus: list[str]) -> str:
    """Bring one stage up to date, on a worker; how it ended. What it says is in its log."""
    from distributed import get_worker
    from distributed import print as say

    given = {**os.environ, **environment}
    if gpus:
        given["CUDA_VISIBLE_DEVICES"] = gpus[get_worker().name % len(gpus)]
    whole = {name: value for name, value in given.items() if value is not None}
    line = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    with open(logs / f"{stage}.log", "a+") as log:  # a lost worker's stage may still write to it
        waiting = False
        while True:
            start = log.seek(0, os.SEEK_END)
            done = subprocess.run(line, cwd=root, env=whole, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.seek(start)
            said = log.read()
            if done.returncode == 0:
                return UP_TO_DATE if f"Stage '{stage}' didn't change" in said else DONE
            if BUSY not in said:
                return FAILED
            if not waiting:  # a lost worker's stage runs on, or the user's own dvc does
                say(f"{stage} waits for another process: {said}", flush=True)
            waiting = True
            time.sleep(2)


def gpus_here() -> list[str]:
    """The GPUs that stages may use, as CUDA_VISIBLE_DEVICES names them, where there are several to share out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch  # takes seconds to import

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    return names if len(names) > 1 else []


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-10:])


def _order_lock(root: Path, planned: list[str]) -> None:
    """Put dvc.lock, where stages stand as they ended, in the order of `dvc repro`: committed ones, then new ones."""
    from dvc.utils.serialize import modify_yaml, parse_yaml

    path = root / "dvc.lock"
    if not path.exists():
        return
    shown = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=root, capture_output=True, text=True)
    committed = parse_yaml(shown.stdout, "dvc.lock").get("stages", {}) if shown.returncode == 0 else {}
    place = {name: number for number, name in enumerate(dict.fromkeys([*committed, *planned]))}
    with modify_yaml(path) as lock:
        entries = lock["stages"]
        lock["stages"] = {name: entries[name] for name in sorted(entries, key=lambda name: place.get(name, len(place)))}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workers", type=int, required=True, help="stages side by side, each with a GPU if there are several"
    )
    parser.add_argument(
        "--slurm", action="store_true", help="workers are SLURM jobs, as jobqueue.yaml of Dask describes"
    )
    command.run(main, parser)
