"""For all figures: one panel a method, the style of each kind of pairs, title, legend, and saving as PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pcam_agreement.core.files import atomic_file

matplotlib.use("Agg")

WIDTH, HEIGHT = 7.5, 2.8  # inches, of the smallest figure
# Pairs of networks, told apart by colour, by grey level and by shape.
KINDS: dict[str, dict[str, Any]] = {
    "between": {"color": "#00467f", "marker": "o"},
    "within": {"color": "#c98a00", "marker": "D"},
    "untrained": {"color": "#808080", "marker": "s", "mfc": "white"},
}


def kind_names(word: str) -> dict[str, str]:
    """What each kind of pairs is, with the word for a recipe."""
    return {
        "between": f"two {word}s",
        "within": f"two trainings of one {word}",
        "untrained": "one or both untrained",
    }


def panels(
    methods: Sequence[str],
    titles: Mapping[str, str],
    width: float,
    height: float,
    columns: int = 3,
    margin: float = 0.0,
    **shared: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure with one titled panel a method, each of this size in inches; margin: for labels left of the panels."""
    columns = min(columns, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure((max(columns * width + margin, WIDTH), max(rows * height + 1.1, HEIGHT)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, method in zip(axes.flat, methods, strict=False):
        axis.set_title(titles[method], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat[: len(methods)])


def add_title(figure: Figure, *lines: str) -> None:
    """A title of the whole figure, each line broken where it is wider than the figure."""
    width = int(figure.get_figwidth() * 12.5)  # characters, at 10 points
    figure.suptitle("\n".join(textwrap.fill(line, width) for line in lines), fontsize=10)


def add_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend below the panels, in as many columns as the figure is wide."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(figure.get_figwidth() / (longest / 17 + 0.7))  # at 8 points; 0.7 for the line and the gap
    columns = min(max(columns, 1), len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def save(figure: Figure, path: Path, dpi: int, colours: int | None = None) -> None:
    """Write a PNG, with a palette of this many colours if given (tissue does not compress); same figure, same bytes."""
    figure.set_dpi(dpi)
    with atomic_file(path) as partial:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once: savefig draws twice
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        (image.quantize(colours) if colours else image).save(partial, "PNG", optimize=True)
