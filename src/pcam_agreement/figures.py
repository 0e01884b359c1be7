"""Owns matplotlib: arrays and tables in, figures out."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

matplotlib.use("Agg")

COLOURS = "cividis"  # survives colour blindness and grey print
METHOD_NAMES = {
    "saliency": "Saliency",
    "input_x_gradient": "Input × gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated gradients",
    "grad_cam": "Grad-CAM",
    "occlusion": "Occlusion",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "random": "Random maps (explain nothing)",
    "centre": "The centre (explains nothing)",
}


def agreement_matrices(pairs: pd.DataFrame, networks: list[str], fraction: float, chance: float) -> Figure:
    """One matrix of mean IoU a method, network by network, with the numbers in the cells."""
    methods = list(pairs["method"].unique())
    m = len(networks)
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    cell = max(0.62, 3.4 / m)
    figure = Figure((columns * (m * cell + 0.5) + 2.6, rows * (m * cell + 0.6) + 2.0), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    top = float(np.nanmax(pairs["iou"])) if pairs["iou"].notna().any() else 1.0
    image = None
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, method in zip(axes.flat, methods, strict=False):
        matrix = np.full((m, m), np.nan)
        for pair in pairs[pairs["method"] == method].itertuples():
            i, j = networks.index(str(pair.network_a)), networks.index(str(pair.network_b))
            matrix[i, j] = matrix[j, i] = pair.iou
        image = axis.imshow(matrix, COLOURS, vmin=chance, vmax=max(top, chance + 0.01))
        for i, j in np.argwhere(np.isfinite(matrix)):
            dark = matrix[i, j] < (chance + top) / 2
            axis.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", color="white" if dark else "black")
        for i in range(m):
            axis.text(i, i, "–", ha="center", va="center", color="grey")
        axis.set_title(METHOD_NAMES.get(method, method))
        axis.set_xticks(range(m), networks, rotation=45, ha="right", rotation_mode="anchor")
        first = axis.get_subplotspec().is_first_col()
        axis.set_yticks(range(m), networks if first else [""] * m)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    count = int(pairs["patches"].max())
    figure.suptitle(
        f"Do the networks look at the same pixels? Mean IoU of the {fraction:.0%} most important pixels\n"
        f"of each of {count} test patches (1: the same pixels; {chance:.2f}: no more than two random masks share)",
        fontsize=11,
    )
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.8, label=f"mean IoU (scale starts at chance, {chance:.2f})")
    return figure


def agreement_intervals(pairs: pd.DataFrame, chance: float) -> Figure:
    """One panel a method, one line a pair: mean IoU with its interval, beside the pair's null, and chance."""
    methods = list(pairs["method"].unique())
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    lines = len(pairs[pairs["method"] == methods[0]])
    figure = Figure((columns * 3.4 + 2.6, rows * (0.27 * lines + 0.9) + 1.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    colours = {"trained": "#00467f", "ceiling": "#b8860b", "floor": "#808080"}
    meaning = {"trained": "two networks", "ceiling": "ceiling: one network, two seeds", "floor": "floor: one untrained"}
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, method in zip(axes.flat, methods, strict=False):
        order = {kind: place for place, kind in enumerate(colours)}
        own = pairs[pairs["method"] == method].sort_values(
            ["kind", "iou"], key=lambda column: column.map(order) if column.name == "kind" else -column
        )
        for row, pair in enumerate(own.itertuples()):
            colour = colours[str(pair.kind)]
            axis.plot([pair.iou_low, pair.iou_high], [row, row], color=colour, lw=2)
            axis.plot(pair.iou, row, "o", color=colour, ms=5)
            axis.plot([pair.null] * 2, [row - 0.35, row + 0.35], color="#c03028", lw=2)
        axis.axvline(chance, color="black", ls=":", lw=1)
        axis.set_title(METHOD_NAMES.get(method, method))
        axis.set_yticks(range(lines), [f"{pair.network_a} ~ {pair.network_b}" for pair in own.itertuples()], fontsize=8)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("mean IoU")
    handles = [
        *(
            matplotlib.lines.Line2D([], [], color=colours[kind], marker="o", lw=2, label=meaning[kind])
            for kind in colours
        ),
        matplotlib.lines.Line2D([], [], color="#c03028", marker="|", ms=11, mew=2, lw=0, label="null: other patches"),
        matplotlib.lines.Line2D([], [], color="black", ls=":", lw=1, label=f"chance {chance:.2f}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.suptitle(
        "How much of it is about the patch? What a pair shares on the same patch (with its 95 % interval)\n"
        "beside what the same two networks share on different patches (null)",
        fontsize=11,
    )
    return figure


def performance_gaps(gaps: pd.DataFrame, tests: dict[str, dict]) -> Figure:
    """One panel a method, one point a pair of architectures: gap in AUROC against agreement, with Mantel's test."""
    columns = min(3, len(tests))
    rows = -(-len(tests) // columns)
    figure = Figure((columns * 4.0 + 0.6, rows * 3.3 + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(tests) :]:
        axis.axis("off")
    words = {"normalised": "normalised agreement A", "excess": "IoU above the null"}
    for axis, (method, test) in zip(axes.flat, tests.items(), strict=False):
        own = gaps[gaps["method"] == method]
        if not own.empty:
            axis.vlines(own["auroc_gap"], own["low"], own["high"], color="#00467f", alpha=0.4, lw=2)
            axis.plot(own["auroc_gap"], own["agreement"], "o", color="#00467f")
            axis.set_ylabel(words[str(own["measure"].iloc[0])])
        for place, pair in enumerate(own.sort_values("agreement").itertuples() if len(own) <= 10 else ()):
            text, at = f"{pair.network_a} ~\n{pair.network_b}", (pair.auroc_gap, pair.agreement)
            below = place % 2 == 0  # neighbours in height go apart
            offset, side = (5, -5 if below else 5), "top" if below else "bottom"
            axis.annotate(text, at, offset, textcoords="offset points", va=side, fontsize=7)
        axis.axhline(0, color="black", ls=":", lw=1)
        axis.set_xlim(0, 1.5 * own["auroc_gap"].max() if len(own) else 1)
        axis.set_xlabel("gap in test AUROC")
        said = "too few pairs" if test["rho"] is None else f"rho {test['rho']:.2f}, p {test['p']:.2f}"
        power = "" if test["critical_rho"] else f"; {test['architectures']} architectures cannot be significant"
        axis.set_title(f"{METHOD_NAMES.get(method, method)}\n{said}{power}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "Do networks that perform alike look at the same tissue? One point a pair of architectures", fontsize=11
    )
    return figure


def localisation_bars(where: pd.DataFrame) -> Figure:
    """One row a region, one panel a method: the share of each network's heatmaps that lies in the region."""
    methods, regions = list(where["method"].unique()), list(where["region"].unique())
    networks = [name for name in where["network"].unique() if name not in ("middle", "random map")]
    columns = len(methods)
    size = (columns * 2.9 + 2.0, len(regions) * (0.3 * len(networks) + 0.9) + 1.3)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(len(regions), columns, squeeze=False, sharey=True, sharex="row")
    words = {"centre": "in the centre 32 x 32,\nwhich the label speaks of", "tumour": "in the drawn tumour"}
    for row, region in enumerate(regions):
        for axis, method in zip(axes[row], methods, strict=True):
            own = where[(where["method"] == method) & (where["region"] == region)].set_index("network")
            axis.barh(networks, own.loc[networks, "mass"], color="#00467f", height=0.65)
            axis.axvline(own.loc["random map", "mass"], color="black", ls=":", lw=1.5, label="a random map")
            axis.axvline(own.loc["middle", "mass"], color="#c03028", lw=1.5, label="a Gaussian in the middle")
            axis.set_xlim(0, None)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(METHOD_NAMES.get(method, method), fontsize=10)
            axis.set_xlabel(f"share of the heatmap {words[region]}", fontsize=8)
    axes[0, 0].invert_yaxis()
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    figure.suptitle("Where do the networks look? Beside two maps that explain nothing", fontsize=11)
    return figure


def pair_panels(
    patches: np.ndarray, heatmaps: np.ndarray, masks: np.ndarray, iou: np.ndarray, names: tuple[str, str], method: str
) -> Figure:
    """One row a patch: the patch, both heatmaps over it, and where both, or either, look.

    patches: uint8 [n, 96, 96, 3]; heatmaps and masks: [2, n, 96, 96]; iou: [n].
    """
    n = len(patches)
    figure = Figure((10.6, 2.05 * n + 0.9), layout="constrained")
    axes = figure.subplots(n, 5, squeeze=False)
    titles = ("patch", names[0], names[1], "both (intersection)", "either (union)")
    for row in range(n):
        both, either = np.minimum(*masks[:, row]), np.maximum(*masks[:, row])
        for column in range(5):
            axis = axes[row, column]
            axis.set_axis_off()
            if row == 0:
                axis.set_title(titles[column], fontsize=10)
            if column in (0, 1, 2):
                axis.imshow(patches[row])
            if column in (1, 2):
                heat = heatmaps[column - 1, row]
                axis.imshow(heat, "inferno", alpha=0.65, vmin=0, vmax=max(np.quantile(heat, 0.99), 1e-6))
            if column in (3, 4):
                shown = (both, either)[column - 3][..., None]
                axis.imshow((patches[row] * shown + 255 * (1 - shown)).astype(np.uint8))
                axis.add_patch(matplotlib.patches.Rectangle((-0.5, -0.5), 96, 96, fill=False, color="lightgrey"))
        axes[row, 0].text(
            -0.08, 0.5, f"IoU {iou[row]:.2f}", transform=axes[row, 0].transAxes, rotation=90, ha="right", va="center"
        )
    figure.suptitle(
        f"{METHOD_NAMES.get(method, method)}: where {names[0]} and {names[1]} look, from the patch they agree on\n"
        "least to the one they agree on most (evenly spaced in rank; masks are each heatmap's most important pixels)",
        fontsize=10,
    )
    return figure


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
