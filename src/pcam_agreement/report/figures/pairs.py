"""The figure with a cell for every pair of networks."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.figures.panels import add_title, panels, show_undefined

COLOURS = "cividis"  # survives colour blindness and grey print
READABLE = 16  # networks, up to which a number fits into a cell
UNTRAINED = "untrained"
NAMED = 40  # networks, up to which each has its name; of more, each recipe has


def correlations(pairs: pd.DataFrame, networks: Sequence[Network], titles: Mapping[str, str], word: str) -> Figure:
    """One matrix a method: the patch-specific correlation of every two networks, trainings of a recipe together.

    pairs: an `agreement_table`; networks: in the order of rows and columns; word: for a recipe.
    """
    methods, names, m = list(titles), [network.name for network in networks], len(networks)
    blocks = _blocks(networks)
    places, labels = (
        (range(m), names) if m <= NAMED else ([np.mean(rows) for _, rows in blocks], [b for b, _ in blocks])
    )
    size = max(0.26 * m, 2.2) if m <= NAMED else max(0.08 * m, 0.14 * len(blocks))
    room = 0.075 * max(map(len, labels))  # for the names below and beside the cells
    columns = 3 if m <= READABLE else 2
    figure, axes = panels(methods, titles, size + 0.2, size + room, columns, margin=1.0 + room, sharey=True)
    image, undefined = None, False
    for axis, method in zip(axes, methods, strict=True):
        matrix = np.full((m, m), np.nan)
        for pair in pairs[pairs["method"] == method].itertuples():
            i, j = names.index(str(pair.network_a)), names.index(str(pair.network_b))
            matrix[i, j] = matrix[j, i] = pair.correlation
        image = axis.imshow(matrix, COLOURS, vmin=0, vmax=1)
        undefined |= show_undefined(axis, np.isnan(matrix) & ~np.eye(m, dtype=bool))
        for i, j in np.argwhere(np.isfinite(matrix)) if m <= READABLE else ():
            colour = "black" if matrix[i, j] > 0.5 else "white"
            text = axis.text(j, i, f"{round(100 * matrix[i, j])}", fontsize=6.5, ha="center", va="center", color=colour)
            text.set_in_layout(False)
        for name, rows in blocks[1:]:  # lines between recipes, and a wider one before the untrained networks
            width = (1.5 if m <= NAMED else 0.5) if name != UNTRAINED else 3.5
            axis.axhline(rows[0] - 0.5, color="white", lw=width)
            axis.axvline(rows[0] - 0.5, color="white", lw=width)
        axis.set_xticks(places, labels, fontsize=7, rotation=90)
        axis.set_yticks(places, labels, fontsize=7)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    assert image is not None
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, label="patch-specific correlation")
    add_title(
        figure,
        "Which networks look alike? Correlation of what depends on the patch in where two networks look "
        + ("(numbers in hundredths)" if m <= READABLE else ""),
        f"(1: the same on every patch; 0: as alike as on different patches; between lines: trainings of one {word}; "
        f"last: untrained{'; pink: undefined' if undefined else ''})",
    )
    return figure


def _blocks(networks: Sequence[Network]) -> list[tuple[str, list[int]]]:
    """The rows of each recipe's trainings, then of the untrained networks, each with its name."""
    names = [network.recipe if network.trained else UNTRAINED for network in networks]
    return [(name, [row for row, _ in rows]) for name, rows in groupby(enumerate(names), lambda pair: pair[1])]
