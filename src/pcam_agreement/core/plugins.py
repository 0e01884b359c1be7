"""Data sources and attribution methods: one file each, found by its name."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from pcam_agreement.core.names import nearest

SOURCES = "data.sources"
METHODS = "attribution.methods"
NEEDED = {
    SOURCES: ("TITLE", "DESCRIPTION", "SYNTHETIC", "Settings", "write"),
    METHODS: ("TITLE", "DESCRIPTION", "STOCHASTIC", "Settings", "passes", "attribute"),
}

_ROOT = Path(__file__).parents[1]


def available(package: str) -> list[str]:
    """The names of the files in a package of this project, in alphabetical order."""
    folder = _ROOT.joinpath(*package.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load(package: str, kind: str, name: str) -> ModuleType:
    """The module of this name. kind: what the modules of the package are, for the sentences.

    Raises ValueError, with the nearest name, where there is no such file; where it cannot be imported; and where it
    lacks a name that it needs.
    """
    known = available(package)
    if name not in known:
        raise ValueError(f"unknown {kind} '{name}'; {nearest(name, known)}")
    path = f"{package.replace('.', '/')}/{name}.py"
    try:
        module = import_module(f"pcam_agreement.{package}.{name}")
    except (SyntaxError, ImportError) as error:
        raise ValueError(f"{kind} '{name}': {path} cannot be imported ({error}); mend it.") from error
    missing = [needed for needed in NEEDED[package] if not hasattr(module, needed)]
    if missing:
        needs = ", ".join(NEEDED[package])
        raise ValueError(f"{kind} '{name}': {path} has no {' and no '.join(missing)}; it needs {needs}.")
    return module
