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
