"""Where an interrupted stage continues: a folder whose name is the hash of all that its result depends on.

It lies outside of the stage's outputs, which DVC removes before a run. The place is `data/work`, or the folder
named by the environment variable PCAM_AGREEMENT_WORK (needed for `dvc exp run --temp` and `--queue`, which run in
a copy of the repository that is thrown away).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def folder(stage: str, *identity: str) -> Path:
    """The folder of this stage for these parameters, data and checkpoints, and for its own code; made.

    The code is that of all modules of this package that the stage has imported by now: a change of anything else
    throws no work away, and no change of these takes up stale work.
    """
    digest = hashlib.sha256()
    for part in (*identity, _imported_code()):
        digest.update(part.encode() + b"\0")
    path = place() / f"{stage}-{digest.hexdigest()[:16]}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def place() -> Path:
    """Where all these folders are."""
    return Path(os.environ.get("PCAM_AGREEMENT_WORK", "data/work"))


def _imported_code() -> str:
    package = __name__.partition(".")[0]
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == package and getattr(module, "__file__", None):
            digest.update(name.encode() + b"\0" + Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()
