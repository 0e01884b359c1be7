"""dvc.lock, written whole or not at all, and completed where a killed process has cut it short.

DVC rewrites the file in place. A kill -9 meanwhile leaves its beginning, from which `dvc repro` goes on without a word.
A copy in the work folder and the last commit have what is missing; DVC compares every entry with the files, so that a
restored one does no harm. Entries are kept as text: YAML of 100 KB takes seconds to write, and one entry changes.
"""

import subprocess
from pathlib import Path
from typing import Any

from pcam_agreement.core.files import atomic_file

HEADER = "schema: '2.0'\nstages:\n"


class Lock:
    """The entries of dvc.lock by stage; completed, where the file's end shows that it was cut."""

    def __init__(self, path: Path, copy: Path) -> None:
        self.path, self.copy = path, copy
        self.planned: list[str] = []
        self.text = path.read_text() if path.exists() else None
        self.entries = _entries(self.text or "")
        show = ["git", "show", f"HEAD:./{path.name}"]
        self.committed = _entries(subprocess.run(show, cwd=path.parent, capture_output=True, text=True).stdout)
        self.saved = self.committed | _entries(copy.read_text() if copy.exists() else "")
        if self.text is not None and not self._ends_well():
            self._restore()

    def restored(self, planned: list[str]) -> bool:
        """Whether entries of these stages, all of the pipeline's, were lost and are restored: DVC must read again."""
        self.planned = planned
        lost = self.text is not None and bool((self.saved.keys() & planned) - self.entries.keys())
        if lost:
            self._restore()
        return lost

    def drop_stale(self) -> None:
        """Drop the entries of stages that the pipeline no longer has."""
        stale = self.entries.keys() - self.planned
        if stale:
            self.entries = {name: text for name, text in self.entries.items() if name not in stale}
            self._write()
            print(f"entries of dvc.lock whose stages the pipeline no longer has, dropped: {len(stale)}", flush=True)

    def record(self, stage: Any) -> None:
        """Write what DVC knows of this stage, as `dvc repro` does once it has run."""
        from dvc.stage.serialize import to_lockfile
        from dvc.utils.serialize import dumps_yaml

        self.entries |= _entries(dumps_yaml({"stages": to_lockfile(stage)}))
        self._write()

    def _ends_well(self) -> bool:
        """Whether the last entry is whole, as one that another follows must be."""
        from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
        from dvc.utils.serialize import ParseError, parse_yaml
        from voluptuous import Invalid

        if not self.entries or not str(self.text).endswith("\n"):
            return False
        name, text = next(reversed(self.entries.items()))
        try:
            COMPILED_LOCK_FILE_STAGE_SCHEMA(parse_yaml(text, self.path)[name])
        except (ParseError, Invalid):
            return False
        return text == self.saved.get(name) or not self.saved.get(name, "").startswith(text)

    def _restore(self) -> None:
        """Drop the last entry, which may be cut, and take what is missing from the copy or the last commit."""
        if self.entries:
            self.entries.popitem()
        lost = {name: text for name, text in self.saved.items() if name not in self.entries}
        self.entries |= lost
        self._write()
        source = f"{self.copy.name} in {self.copy.parent} or the last commit"
        print(f"dvc.lock had been cut short: {len(lost)} entries are back from {source}.", flush=True)

    def _write(self) -> None:
        """In the order of a serial `dvc repro`: entries that are committed, then new ones as planned."""
        order = {name: number for number, name in enumerate(dict.fromkeys([*self.committed, *self.planned]))}
        self.entries = dict(sorted(self.entries.items(), key=lambda entry: order.get(entry[0], len(order))))
        self.text = HEADER + "".join(self.entries.values())
        for path in (self.path, self.copy):
            with atomic_file(path) as partial:
                partial.write_text(self.text)


def _entries(text: str) -> dict[str, str]:
    """The text of each entry, in whole lines, by its stage. Raises ValueError at a line that only a merge leaves."""
    entries: dict[str, str] = {}
    name = ""
    for line in text[: text.rfind("\n") + 1].splitlines(keepends=True):
        if not line.startswith(" "):
            if line not in HEADER and not line.startswith("stages:"):
                raise ValueError(f"dvc.lock: unexpected line {line.strip()!r}; after a merge see docs/sharing.md.")
        elif line[2:3] == " ":
            entries[name] += line
        else:
            name = line.strip().removesuffix(":").strip("'\"")
            entries[name] = line
    return entries
