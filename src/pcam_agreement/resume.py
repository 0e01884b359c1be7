"""Where an interrupted stage continues: a folder whose name is the hash of all that its result depends on.

It lies outside of the stage's outputs, which DVC removes before a run. The place is `data/work`, or the folder
named by the environment variable PCAM_AGREEMENT_WORK (needed for `dvc exp run --temp` and `--queue`, which run in
a copy of the repository that is thrown away).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def folder(stage: str, *identity: str) -> Path:
    """The folder of this stage for these parameters, data and checkpoints, and for the code as it is now; made."""
    digest = hashlib.sha256()
    for part in (*identity, _code()):
        digest.update(part.encode() + b"\0")
    path = place() / f"{stage}-{digest.hexdigest()[:16]}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def place() -> Path:
    """Where all these folders are."""
    return Path(os.environ.get("PCAM_AGREEMENT_WORK", "data/work"))


def _code() -> str:
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
