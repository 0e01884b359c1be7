"""For all figures: one panel a method, the style of each kind of pairs, title, legend, and saving as PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from pcam_agreement.core.files import atomic_file

matplotlib.use("Agg")

WIDTH, HEIGHT = 7.5, 2.8  # inches, of the smallest figure
UNDEFINED = "#e6b8b0"  # pink, which is in no map of colours here
ENDS = (-1.0, 2.0)  # of an axis on which 0 is nothing and 1 is all
MARKERS = {"x": "<>", "y": "v^"}  # of values beyond them
BEYOND = f"(axes end at {ENDS[0]:g} and {ENDS[1]:g}; triangles: values beyond)"
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
    for place in range(len(methods), rows * columns):
        axes.flat[place].axis("off")
        axes.flat[place - columns].tick_params(labelbottom=True)  # with a shared axis only the lowest row has numbers
    for axis, method in zip(axes.flat, methods, strict=False):
        axis.set_title(titles[method], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat[: len(methods)])


def wide_enough(low: float, high: float) -> tuple[float, float]:
    """The limits of an axis; of one without values, where they would be 1e-17 apart, others."""
    return (low, high) if high - low > 1e-6 else (-0.1, 1.0)


def show_undefined(axis: Axes, cells: np.ndarray) -> bool:
    """Colour the cells [m, m] of a matrix that have no value; whether there are any."""
    if cells.any():
        axis.imshow(np.where(cells, 1.0, np.nan), ListedColormap([UNDEFINED]))
    return bool(cells.any())


def end_axis(axis: Axes, points: pd.DataFrame, along: Literal["x", "y"], colour: str) -> bool:
    """End the x or y axis where a few values, divided by next to nothing, would press all others together.

    points: of columns x and y; those beyond an end are triangles there. 0 must be on the axis already. Whether the
    axis was shortened.
    """
    low, high = wide_enough(*(axis.get_xlim() if along == "x" else axis.get_ylim()))
    for end, marker, beyond in zip(
        ENDS, MARKERS[along], (points[along] < ENDS[0], points[along] > ENDS[1]), strict=True
    ):
        if beyond.any():  # the layout would make room for a line of no points at the origin
            at_end = points[beyond].assign(**{along: end})
            axis.plot(at_end["x"], at_end["y"], marker, color=colour, clip_on=False)
    (axis.set_xlim if along == "x" else axis.set_ylim)(max(low, ENDS[0]), min(high, ENDS[1]))
    return low < ENDS[0] or high > ENDS[1]


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
