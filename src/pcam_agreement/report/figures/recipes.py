"""Figures of recipes: how alike every two of them look, and how many trainings must be averaged."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcam_agreement.report.figures.panels import add_legend, add_title, panels, show_undefined

COLOURS = "cividis"  # survives colour blindness and grey print
READABLE = 10  # recipes, up to which numbers stand in the cells; of more they are in plots/recipes.csv
TARGET = 0.8
LOWEST = -0.5  # reliability that is shown: below 0 it is noise, and that of many trainings is as low as one likes
DASHES = ("-", "--", "-.", (0, (1, 1)))


def agreement(recipes: pd.DataFrame, order: list[str], titles: Mapping[str, str], word: str) -> Figure:
    """One triangle a method, recipe by recipe: normalised agreement A, and small below it its 95 % interval.

    recipes: a `recipes_table`; order: of rows and columns; word: for a recipe.
    """
    methods, m = list(titles), max(len(order) - 1, 1)
    room = 0.075 * max(map(len, order))  # for the names below and beside the cells
    readable = len(order) <= READABLE
    size = max(0.85 * m, 2.2) if readable else 0.25 * m
    figure, axes = panels(methods, titles, size + 0.3, size + room, margin=1.0 + room, sharey=True)
    image, undefined = None, False
    for axis, method in zip(axes, methods, strict=True):
        matrix = np.full((m, m), np.nan)
        for pair in recipes[recipes["method"] == method].to_dict("records"):
            x, y = sorted((order.index(pair["recipe_a"]), order.index(pair["recipe_b"])))
            matrix[y - 1, x] = value = pair["value"]
            colour = "black" if np.isnan(value) or value > 0.5 else "white"
            big = "?" if np.isnan(value) else f"{value:.2f}"
            small = "undefined" if np.isnan(value) else f"{pair['low']:.2f} to {pair['high']:.2f}"
            small = "no interval" if np.isfinite(value) and np.isnan(pair["low"]) else small
            for up, points, text in ((0.1, 12, big), (-0.24, 7, small)) if readable else ():
                cell = axis.text(x, y - 1 - up, text, fontsize=points, ha="center", va="center", color=colour)
                cell.set_in_layout(False)
        image = axis.imshow(matrix, COLOURS, vmin=0, vmax=1)
        if len(order) > 1:
            undefined |= show_undefined(axis, np.isnan(matrix) & np.tri(m, dtype=bool))
        else:
            axis.text(0, 0, f"one {word} only", ha="center", va="center", fontsize=9)
        points = 10 if readable else 7
        turn = 40 if readable else 90
        axis.set_xticks(
            range(m), order[:-1] or [""], fontsize=points, rotation=turn, ha="right", rotation_mode="anchor"
        )
        axis.set_yticks(range(m), order[1:] or [""], fontsize=points)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    assert image is not None
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, label="A (colours end at 0 and 1)")
    intervals = "small: 95 % interval" if readable else "numbers and intervals are in plots/recipes.csv"
    add_title(
        figure,
        f"How alike are two {word}s in where they look, corrected for differences between trainings? "
        f"A = 1: as two trainings of one {word}; 0: they share nothing that depends on the patch.",
        f"({intervals}{'; pink: undefined' if undefined else ''})",
    )
    return figure


def reliability(table: pd.DataFrame, titles: Mapping[str, str], word: str) -> Figure:
    """One panel a method: the reliability of a mean heatmap over the trainings averaged, of all recipes and of each.

    table: a `reliability_table`.
    """
    methods, names = list(titles), [name for name in table["recipe"].unique() if name != "all"]
    styles: dict[str, dict[str, Any]] = {
        name: {"lw": 1, "color": f"C{row % 10}", "ls": DASHES[row % len(DASHES)]} for row, name in enumerate(names)
    }
    styles["all"] = {"lw": 2.5, "color": "#00467f"}
    figure, axes = panels(methods, titles, 3.3, 3.0, sharex=True, sharey=True)
    for axis, method in zip(axes, methods, strict=True):
        of_method = table[table["method"] == method]
        for recipe, style in styles.items():
            rows = of_method[of_method["recipe"] == recipe]
            axis.plot(rows["trainings"], rows["value"], **style)
        rows = of_method[of_method["recipe"] == "all"]
        axis.fill_between(rows["trainings"], rows["low"], rows["high"], color="#00467f", alpha=0.15, lw=0)
        axis.set_title(f"{titles[method]}\n{_needed(rows.iloc[0])}", fontsize=9)
        axis.axhline(TARGET, color="#c03028", ls=":", lw=1.2)
        axis.set_xticks(sorted(table["trainings"].unique()))
        axis.set_xlabel("trainings averaged")
        axis.grid(alpha=0.3)
    lowest = table["value"].min() if table["value"].notna().any() else 0.0
    axes[0].set_ylim(max(min(0.0, 1.1 * lowest), LOWEST), 1.0)
    axes[0].set_ylabel(f"how much is of the {word}")
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items() if name != "all"]
    handles.append(Line2D([], [], label=f"all {word}s (shaded: 95 % interval)", **styles["all"]))
    add_legend(figure, [*handles, Line2D([], [], color="#c03028", ls=":", lw=1.2, label=f"reliability {TARGET}")])
    add_title(
        figure,
        f"How many trainings must be averaged until a heatmap is about the {word}? Reliability of the mean of so many: "
        "its correlation with that of as many others",
        *([f"(values below {LOWEST} are not shown)"] if lowest < LOWEST else []),
    )
    return figure


def _needed(row: pd.Series) -> str:
    """How many trainings reach the target, rounded up."""
    value, low, high = (np.ceil(row[name]) for name in ("needed", "needed_low", "needed_high"))
    if not np.isfinite(value):
        return "no number is enough" if not row["reason"] else "undefined"
    if not np.isfinite(low):
        return f"{value:.0f} trainings"
    return f"{value:.0f} trainings ({f'at least {low:.0f}' if np.isinf(high) else f'{low:.0f} to {high:.0f}'})"
