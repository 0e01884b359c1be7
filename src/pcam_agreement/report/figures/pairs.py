"""Figures with a row or a cell for every pair of networks: mean IoU, its interval, and normalised agreement."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from pcam_agreement.report.figures.panels import (
    KIND_NAMES,
    KINDS,
    NULL,
    NULL_NAME,
    add_legend,
    add_title,
    kind_handle,
    panels,
)

COLOURS = "cividis"  # survives colour blindness and grey print
FRAMES = {"ceiling": "-", "floor": ":"}


def agreement_matrices(
    pairs: pd.DataFrame, networks: list[str], fraction: float, chance: float, titles: Mapping[str, str]
) -> Figure:
    """One triangle a method, network by network: mean IoU, and small below it its 95 % interval and the null.

    networks: in the order of rows and columns; chance: NaN where the areas of masks differ.
    """
    methods = list(pairs["method"].unique())
    m = len(networks) - 1
    size = m * 0.82 + 0.4
    figure, axes = panels(methods, titles, max(size, 2.6), size + 1.0, 3 if m < 6 else 2, margin=2.4, sharey=True)
    low = np.nan_to_num(chance)
    top = max(float(pairs["iou"].max()) if pairs["iou"].notna().any() else 1.0, low + 0.01)
    image = None
    for axis, method in zip(axes, methods, strict=True):
        matrix = np.full((m, m), np.nan)
        for pair in pairs[pairs["method"] == method].itertuples():
            i, j = sorted((networks.index(str(pair.network_a)), networks.index(str(pair.network_b))))
            matrix[j - 1, i] = pair.iou
            colour = "white" if pair.iou < (low + top) / 2 else "black"
            if np.isfinite(pair.iou):
                _cell(axis, i, j - 1, pair, colour)
            if pair.kind in FRAMES:
                frame = Rectangle((i - 0.46, j - 1.46), 0.92, 0.92, fill=False, lw=1.6, ls=FRAMES[pair.kind])
                frame.set_edgecolor(colour)
                axis.add_patch(frame)
        image = axis.imshow(matrix, COLOURS, vmin=low, vmax=top)
        axis.set_xticks(range(m), networks[:-1], rotation=40, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(m), networks[1:])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    share = "" if np.isnan(chance) else f"; {chance:.2f}: two random masks"
    add_title(
        figure,
        f"Do the networks use the same pixels? Mean IoU of the top {fraction:.0%} of the pixels of each heatmap "
        f"of {pairs['patches'].max()} test patches (1: the same pixels{share}).",
        "Small: 95 % interval; null: the same two networks on different patches. "
        "Networks that agree more stand closer (average linkage of 1 - mean IoU over the methods).",
    )
    frames = [Patch(fill=False, ls=FRAMES[kind], lw=1.6, label=KIND_NAMES[kind]) for kind in FRAMES]
    add_legend(figure, frames)
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.8, aspect=40, label=f"mean IoU (scale starts at {low:.2f})")
    return figure


def _cell(axis: Axes, x: float, y: float, pair: Any, colour: str) -> None:
    small = "" if np.isnan(pair.iou_low) else f"{pair.iou_low:.2f}–{pair.iou_high:.2f}\n"
    small += "no null" if np.isnan(pair.null) else f"null {pair.null:.2f}"
    for up, size, text in ((0.2, 12, f"{pair.iou:.2f}"), (-0.2, 7, small)):
        axis.text(x, y - up, text, fontsize=size, ha="center", va="center", color=colour).set_in_layout(False)


def agreement_intervals(pairs: pd.DataFrame, chance: float, titles: Mapping[str, str]) -> Figure:
    """One panel a method, one line a pair: mean IoU with its interval and band, beside the pair's null, and chance."""
    order = _ordered(pairs, "iou")
    methods = list(pairs["method"].unique())
    figure, axes = _lines(methods, titles, order)
    for axis, method in zip(axes, methods, strict=True):
        rows = _of_method(pairs, method).loc[order]
        _intervals(axis, rows, "iou")
        axis.plot(rows["null"], range(len(rows)), **NULL)
        axis.axvline(chance, color="black", ls=":", lw=1)
        axis.set_xlabel("mean IoU")
    handles = [
        *(kind_handle(kind) for kind in KINDS if kind in set(pairs["kind"])),
        Line2D([], [], label=NULL_NAME, **NULL),
    ]
    if np.isfinite(chance):
        handles += [Line2D([], [], color="black", ls=":", lw=1, label=f"chance: two random masks ({chance:.2f})")]
    add_legend(figure, handles)
    add_title(
        figure,
        "How much of the agreement depends on the patch? Mean IoU on the same patch, beside the null",
        "(thick: 95 % interval of the pair alone; thin: of all pairs at once, to compare them)",
    )
    return figure


def normalised_intervals(pairs: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel a method, one line a pair of trained networks: A between null and ceiling, or why it is undefined."""
    shown = pairs[pairs["kind"] == "trained"]
    order = _ordered(shown, "normalised")
    methods = list(pairs["method"].unique())
    figure, axes = _lines(methods, titles, order)
    left = max(-1.0, min(-0.25, shown["normalised_band_low"].min()))
    right = min(2.5, max(1.25, shown["normalised_band_high"].max()))
    for axis, method in zip(axes, methods, strict=True):
        rows = _of_method(shown, method).loc[order]
        if rows.empty:
            axis.set_xlabel("there are no two trained networks that differ in more than the seed")
            continue
        floor = pairs.loc[(pairs["method"] == method) & (pairs["kind"] == "floor"), "normalised"].mean()
        _intervals(axis, rows, "normalised")
        for row, reason in enumerate(rows["undefined"]):
            if reason:
                text = axis.text(0.02, row, f"undefined: {reason}", color="#606060", fontsize=7, va="center")
                text.set(in_layout=False, bbox={"color": "white", "pad": 1})
        axis.axvline(0, color=NULL["color"], lw=1.5)
        axis.axvline(1, color=KINDS["ceiling"]["color"], lw=1.5)
        if np.isfinite(floor):
            axis.axvline(floor, color="#808080", ls="--", lw=1.5)
        axis.set_xlim(left, right)
        axis.set_xlabel("A: 0 at the null, 1 at the ceiling")
    handles = [
        kind_handle("trained"),
        Line2D([], [], color=NULL["color"], lw=1.5, label="null: the same two networks on different patches"),
        Line2D([], [], color="#808080", ls="--", lw=1.5, label="floor: mean A of pairs with an untrained network"),
        Line2D([], [], color=KINDS["ceiling"]["color"], lw=1.5, label=KIND_NAMES["ceiling"]),
    ]
    add_legend(figure, handles)
    add_title(
        figure,
        "Normalised agreement of two networks: 0 at the null, 1 at two trainings of one architecture",
        "(thick: 95 % interval of the pair alone; thin: of all pairs at once, to compare them)",
    )
    return figure


def _of_method(pairs: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = pairs[pairs["method"] == method]
    return rows.set_index(rows["network_a"] + " ~ " + rows["network_b"])


def _ordered(pairs: pd.DataFrame, measure: str) -> list[str]:
    """Names of the pairs, kind by kind, the highest mean over methods first; the same in all panels."""
    rank = pd.Series([list(KINDS).index(kind) for kind in pairs["kind"]], pairs.index, float)
    named = pd.DataFrame(
        {"pair": pairs["network_a"] + " ~ " + pairs["network_b"], "rank": rank, "mean": -pairs[measure]}
    )
    return list(named.groupby("pair").mean().sort_values(["rank", "mean"], kind="stable").index)


def _lines(methods: list[str], titles: Mapping[str, str], order: list[str]) -> tuple[Figure, list[Axes]]:
    figure, axes = panels(methods, titles, 3.2, 0.24 * len(order) + 0.9, margin=2.4, sharex=True, sharey=True)
    for axis in axes:
        axis.set_yticks(range(len(order)), order, fontsize=8)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_ylim(max(len(order), 1) - 0.5, -0.5)
    return figure, axes


def _intervals(axis: Axes, pairs: pd.DataFrame, name: str) -> None:
    """Means with their intervals, and thin behind them their bands, one row a pair."""
    for kind, style in KINDS.items():
        rows = np.flatnonzero(pairs["kind"] == kind)
        chosen = pairs.iloc[rows]
        axis.hlines(rows, chosen[f"{name}_band_low"], chosen[f"{name}_band_high"], color=style["color"], lw=1)
        axis.hlines(rows, chosen[f"{name}_low"], chosen[f"{name}_high"], color=style["color"], lw=3)
        axis.plot(chosen[name], rows, ms=5, ls="none", **style)
