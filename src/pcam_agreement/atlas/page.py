"""The atlas on disk: a page, and beside it a folder for each run that it shows.

A page opened from the disk may not fetch files, but it may load scripts: so each file of data is a script that calls
the page with its data.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import copy

import numpy as np

FORMAT = 3  # of a run's files; the page can only show runs of its own format
ASSETS = Path(__file__).with_name("assets")


def write_run(folder: Path, run: dict, answer: str, pixels: np.ndarray, patches: Iterable[dict]) -> None:
    """A run: run.js, its answer, and a picture and a script of every patch; pixels: uint8 [n, 96, 96, 3]."""
    from PIL import Image

    (folder / "patches").mkdir(parents=True)
    (folder / "answer.md").write_text(answer)
    (folder / "run.js").write_text(_call("atlas.addRun", {"format": FORMAT, **run}))
    for listed, picture, patch in zip(run["patches"], pixels, patches, strict=True):
        Image.fromarray(picture).save(folder / "patches" / f"{listed['key']}.png", optimize=True)
        (folder / "patches" / f"{listed['key']}.js").write_text(_call("atlas.addPatch", patch))


def read_run(folder: Path) -> dict:
    """The content of run.js; raises ValueError where it was written for another version of the page."""
    run = json.loads((folder / "run.js").read_text().removeprefix("atlas.addRun(").removesuffix(");\n"))
    if run["format"] != FORMAT:
        raise ValueError(
            f"{folder.name}: expected an atlas of format {FORMAT}, got {run['format']}; build it with this code."
        )
    return run


def write_page(folder: Path, runs: Mapping[str, str], differences: Sequence[tuple[str, str, str]]) -> None:
    """The page for runs in this folder, given as {sub-folder: name on the page}.

    differences: the settings in which two runs differ, and the value in each.

    Raises ValueError as `read_run` does.
    """
    from jinja2 import Environment, StrictUndefined
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((ASSETS / "index.html.jinja").read_text())
    shown = []
    for name_on_disk, name in runs.items():
        html = MarkdownIt().render((folder / name_on_disk / "answer.md").read_text())
        for of_the_page in (r"<h1>.*?</h1>", r"<p><img.*?></p>", r"<p><strong>The tissue is synthetic</strong>.*?</p>"):
            html = re.sub(of_the_page, "", html, count=1, flags=re.DOTALL)
        answer, *more = html.split("<h2>")
        folded = [[Markup(text) for text in part.split("</h2>")] for part in more]
        written = {"answer": Markup(answer), "more": folded, "synthetic": read_run(folder / name_on_disk)["synthetic"]}
        shown.append({"folder": name_on_disk, "name": name, **written})
    (folder / "index.html").write_text(template.render(runs=shown, differences=differences))
    for path in sorted(ASSETS.iterdir()):
        if path.suffix != ".jinja":
            copy(path, folder)


def _call(function: str, content: dict) -> str:
    return f"{function}({json.dumps(content, separators=(',', ':'), allow_nan=False)});\n"
