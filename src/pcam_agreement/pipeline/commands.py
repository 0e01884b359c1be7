"""Where the commands of stages run side by side: in threads of this process, or in SLURM jobs by way of Dask."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pcam_agreement.pipeline.forks import Forks

Environment = dict[str, str | None]  # None: not set


def command(stage: Any, environment: Environment) -> tuple[list[list[str]], str, Environment]:
    """What `dvc repro` would run for a stage, for `run`: its lines, its folder, and what to set in the environment."""
    from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs

    given = prepare_kwargs(stage)
    changed = {name: value for name, value in given["env"].items() if os.environ.get(name) != value}
    lines = [_make_cmd(get_executable(), line) for line in _enforce_cmd_list(stage.cmd)]
    return lines, given["cwd"], changed | environment


def run(lines: list[list[str]], folder: str, environment: Environment, log: Path, forks: Forks | None = None) -> int:
    """Run the lines of a command while they succeed, on whatever worker; the last one's exit status."""
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    if forks and len(lines) == 1 and forks.fit(lines[0][-1], folder):
        return forks.run(lines[0][-1], folder, variables, log)
    with locked(log) as output:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        for line in lines:
            if status := subprocess.run(line, cwd=folder, env=variables, **streams).returncode:
                return status
    return 0


def locked(log: Path) -> TextIO:
    """The log of a command, emptied, with a lock that the command keeps if the process that started it is killed."""
    output = open(log, "a")  # noqa: SIM115  the caller's
    with suppress(OSError):  # a file system without locks
        fcntl.flock(output, fcntl.LOCK_EX)
    output.truncate(0)
    return output


def wait_for_orphans(logs: Path) -> None:
    """Wait for commands that a killed run has left: they would write to the outputs of the same stages."""
    for path in logs.glob("*.log"):
        with open(path) as log, suppress(OSError):
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{path.stem} of a killed run still runs: waiting for it; fuser -k {path} ends it.", flush=True)
                fcntl.flock(log, fcntl.LOCK_EX)


@contextmanager
def slurm(workers: int, logs: Path) -> Iterator[Executor]:
    """So many SLURM jobs. One that ends is followed by another, and a command that was lost with it is run again."""
    try:
        from dask_jobqueue import SLURMCluster
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"{error}; install what runs stages on SLURM: uv pip install -e '.[cluster]'.") from error
    # security: who can send a task can run code, also another user of the machine
    cluster = SLURMCluster(security=True, shared_temp_directory=str(logs.parent), log_directory=str(logs))
    cluster.adapt(minimum=workers, maximum=workers)
    with cluster, Client(cluster) as client:
        yield DaskExecutor(client)


class DaskExecutor(Executor):
    """Commands as tasks of Dask, which forgets each at its end: else it would run them again with a lost worker."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()

        def end(task: Any) -> None:
            if error := task.exception():
                result.set_exception(error)
            else:
                result.set_result(task.result())
            task.release()

        self.client.submit(function, *args, **kwargs, pure=False).add_done_callback(end)
        return result


def threads_here() -> Environment:
    """The variables by which Dask gives its workers one thread each, as they are here: a stage's bytes may differ."""
    import dask.config
    import distributed  # noqa: F401  it has the defaults

    names = [*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED"]
    return {name: os.environ.get(name) for name in names}


def gpus_here() -> list[str]:
    """The GPUs that stages may use, as CUDA_VISIBLE_DEVICES names them; torch would take seconds to say so."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True)
    except FileNotFoundError:
        return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    return listed.stdout.split() if listed.returncode == 0 else []
