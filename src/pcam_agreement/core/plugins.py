"""Data sources and attribution methods: one file each, found by its name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from pcam_agreement.core.names import nearest

SOURCES = "data.sources"
METHODS = "attribution.methods"

_ROOT = Path(__file__).parents[1]


def available(package: str) -> list[str]:
    """The names of the files in a package of this project, in alphabetical order."""
    folder = _ROOT.joinpath(*package.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load(package: str, kind: str, name: str) -> ModuleType:
    """The module of this name; ValueError with the nearest name where there is no such file.

    kind: what the modules of the package are, for the sentence.
    """
    known = available(package)
    if name not in known:
        raise ValueError(f"unknown {kind} '{name}'; {nearest(name, known)}")
    return import_module(f"pcam_agreement.{package}.{name}")
