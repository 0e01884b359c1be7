"""Names in params.yaml and on the command line; an unknown name is answered with the nearest known one."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean …?' where a known name is close, else the list of known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."


def named(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """The entry of this name; raises ValueError with the nearest name where there is none."""
    if name not in known:
        raise ValueError(f"unknown {kind} '{name}'; {nearest(name, known)}")
    return known[name]
