"""Where an interrupted stage continues: a folder whose name is the hash of all that its result depends on.

It lies outside of the stage's outputs, which DVC removes before a run. The place is `data/work`, or the folder
named by the environment variable PCAM_AGREEMENT_WORK (needed for `dvc exp run --temp` and `--queue`, which run in
a copy of the repository that is thrown away).
"""

import hashlib
import multiprocessing
import os
import sys
from pathlib import Path
from shutil import rmtree

STARTED_BY = os.getppid()  # as the stage begins, which imports this


def folder(stage: str, *identity: str) -> Path:
    """The folder of this stage for these parameters, data and checkpoints, and for its own code; made.

    The code is that of all modules of this project that the stage has imported by now, and all of `networks` where it
    has imported some: a change of these starts again, a change of anything else does not.
    """
    digest = hashlib.sha256()
    for part in (*identity, _imported_code()):
        digest.update(part.encode() + b"\0")
    path = place() / f"{stage}-{digest.hexdigest()[:16]}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def remove(folder: Path) -> None:
    """Remove the folder of a stage that has written its outputs; keep it where what started the stage was killed.

    Then nobody records the outputs: the next run removes them and runs the stage again, which takes its work from here.
    """
    parent = multiprocessing.parent_process()  # of a fork: what asked for it, not what has the libraries
    if parent.is_alive() if parent else os.getppid() == STARTED_BY:
        rmtree(folder, ignore_errors=True)


def place() -> Path:
    """Where all these folders are."""
    return Path(os.environ.get("PCAM_AGREEMENT_WORK", "data/work"))


def _imported_code() -> str:
    root = Path(__file__).parents[1]
    files = {Path(str(getattr(module, "__file__", None))) for module in list(sys.modules.values())}
    files = {path for path in files if path.is_relative_to(root)}
    networks = root / "networks"
    if any(path.parent == networks for path in files):
        files |= set(networks.glob("*.py"))  # some are imported later, once the architecture is known
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
