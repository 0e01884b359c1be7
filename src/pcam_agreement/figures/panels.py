"""What all figures share: one panel a method, what kinds of pairs look like, how a figure is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

matplotlib.use("Agg")

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

# Told apart by colour, by grey level and by shape.
KINDS: dict[str, dict[str, Any]] = {
    "trained": {"color": "#00467f", "marker": "o"},
    "ceiling": {"color": "#c98a00", "marker": "D"},
    "floor": {"color": "#808080", "marker": "s", "mfc": "white"},
}
KIND_NAMES = {
    "trained": "two trained networks",
    "ceiling": "ceiling: one network, two seeds",
    "floor": "floor: one of them untrained",
}
NULL: dict[str, Any] = {"color": "#c03028", "marker": "|", "ms": 11, "mew": 2, "ls": "none"}
NULL_NAME = "null: the same two networks on different patches"


def panels(
    methods: Sequence[str], width: float, height: float, columns: int = 3, margin: float = 0.0, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with one titled panel a method, each of this size in inches; margin: for labels left of the panels."""
    columns = min(columns, len(methods))
    rows = -(-len(methods) // columns)
    wide = max(columns * width + margin, 7.5)  # room for the title
    figure = Figure((wide, rows * height + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, method in zip(axes.flat, methods, strict=False):
        axis.set_title(METHOD_NAMES.get(method, method), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat[: len(methods)])


def kind_handle(kind: str) -> Line2D:
    """A kind of pairs in a legend."""
    return Line2D([], [], lw=2, ms=5, label=KIND_NAMES[kind], **KINDS[kind])


def save(figure: Figure, path: Path, dpi: int, colours: int | None = None) -> None:
    """Write a PNG, of so many colours if told (tissue does not compress); the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if colours is None:
        figure.savefig(path, dpi=dpi, metadata={"Software": None})
        return
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).quantize(colours).save(path, optimize=True)
