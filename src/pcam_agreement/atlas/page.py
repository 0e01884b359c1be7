"""The atlas on disk: a page, and beside it a folder for each run that it shows.

A page from the disk may not fetch files, but it may load scripts: so each file of data is a script that hands it over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import copy

import numpy as np
from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

FORMAT = 1  # of the files of a run; a page can only show those of its own
ASSETS = Path(__file__).with_name("assets")


def write_run(folder: Path, run: dict, answer: str, pixels: np.ndarray, patches: Iterable[dict]) -> None:
    """A run: run.js, its answer, and of every patch the picture and a script; pixels: uint8 [n, 96, 96, 3]."""
    (folder / "patches").mkdir(parents=True)
    (folder / "answer.md").write_text(answer)
    (folder / "run.js").write_text(_call("atlas.addRun", {"format": FORMAT, **run}))
    for listed, picture, patch in zip(run["patches"], pixels, patches, strict=True):
        Image.fromarray(picture).save(folder / "patches" / f"{listed['key']}.png", optimize=True)
        (folder / "patches" / f"{listed['key']}.js").write_text(_call("atlas.addPatch", patch))


def check_format(folder: Path) -> None:
    """Raise ValueError where a run was written for another page than this one."""
    run = json.loads((folder / "run.js").read_text().removeprefix("atlas.addRun(").removesuffix(");\n"))
    if run["format"] != FORMAT:
        raise ValueError(
            f"{folder.name}: expected an atlas of format {FORMAT}, found {run['format']}; build it with this code."
        )


def write_page(folder: Path, runs: Mapping[str, str], differences: Sequence[tuple[str, str, str]]) -> None:
    """The page for runs that lie in this folder: their folders and what they are called there.

    differences: the settings in which two runs differ, and the value in each.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((ASSETS / "index.html.jinja").read_text())
    markdown = MarkdownIt()
    shown = [
        {"folder": own, "name": name, "answer": Markup(markdown.render((folder / own / "answer.md").read_text()))}
        for own, name in runs.items()
    ]
    (folder / "index.html").write_text(template.render(runs=shown, differences=differences))
    for path in sorted(ASSETS.iterdir()):
        if path.suffix != ".jinja":
            copy(path, folder)


def _call(function: str, content: dict) -> str:
    return f"{function}({json.dumps(content, separators=(',', ':'), allow_nan=False)});\n"
