"""Commands as forks of a process that has torch and what stands on it imported: most of what a short stage costs.

That process has libraries alone: a fork reads the code of this project when its stage starts, as DVC has hashed it.
"""

import os
import re
import runpy
import sys
from multiprocessing import connection, forkserver, get_context
from pathlib import Path
from threading import Lock

LIBRARIES = ["torch", "timm", "lightning.pytorch", "dvclive", "skimage.segmentation", "captum.attr", "sklearn"]
SERVER_LOST = 255  # multiprocessing's exit status of a fork where the process that imports was killed
# As dvc.yaml writes the commands of stages that import them; for anything else there is the shell.
COMMAND = re.compile(r"OMP_NUM_THREADS=(\d+) PYTHONPATH=src python -m (pcam_agreement[\w.]+)((?: [\w./-]+)*)")


class Forks:
    """Runs commands of this project's stages, where no GPU is used: forks cannot share one."""

    def __init__(self) -> None:
        self.context = get_context("forkserver")
        self.lock = Lock()  # multiprocessing looks at all of its processes whenever it starts one
        self.started = False
        self.threads: str | None = None  # OMP_NUM_THREADS of all forks: libraries read it when they are imported

    def fit(self, command: str, folder: str) -> bool:
        """Whether a command is one of them, with the threads of those before and with the code that runs here."""
        match, code = COMMAND.fullmatch(command), Path(folder, "src", "pcam_agreement")
        if not match or not code.is_dir() or not code.samefile(Path(__file__).parents[1]):
            return False
        with self.lock:
            self.threads = self.threads or match[1]
        return match[1] == self.threads

    def run(self, command: str, folder: str, variables: dict[str, str], log: Path) -> int:
        """The exit status of a command that fits; negative where a signal ended it."""
        process = self.context.Process(target=_run, args=(command, folder, variables, log))
        with self.lock:
            self._start_server()
            process.start()
        connection.wait([process.sentinel])
        with self.lock:
            process.join()
            if process.exitcode == SERVER_LOST:  # another one must get its threads as the first
                self.started = False
        assert process.exitcode is not None
        return process.exitcode

    def _start_server(self) -> None:
        """Start the process that imports, once, in the environment of its forks where that counts."""
        if self.started:
            return
        assert self.threads is not None
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = self.threads
        self.context.set_forkserver_preload(LIBRARIES)
        forkserver.ensure_running()
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        self.started = True


def _run(command: str, folder: str, variables: dict[str, str], log: Path) -> None:
    """In the fork: what `python -m` does, with the output in the log."""
    from pcam_agreement.pipeline.commands import locked

    match = COMMAND.fullmatch(command)
    assert match is not None
    output = locked(log)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables, OMP_NUM_THREADS=match[1], PYTHONPATH="src")
    sys.argv = [match[2], *match[3].split()]
    # As in a new process: what is unfinished is known by the code that the stage imports (`core.resume`).
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pcam_agreement", "__mp_main__")]:
        del sys.modules[name]
    runpy.run_module(match[2], run_name="__main__", alter_sys=True)
