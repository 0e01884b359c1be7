"""Figures of agreement against the top fraction, by stratum of patches, and against the gap in performance."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcam_agreement.report.figures.panels import KIND_NAMES, KINDS, NULL, NULL_NAME, add_legend, add_title, panels


def curves(curve: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel a method: mean kappa over the top fraction of trained pairs with their spread, ceiling and floor."""
    methods = list(curve["method"].unique())
    figure, axes = panels(methods, titles, 3.4, 3.0, sharex=True, sharey=True)
    fractions = sorted(curve["fraction"].unique())
    for axis, method in zip(axes, methods, strict=True):
        for kind, style in KINDS.items():
            kappa = curve[(curve["method"] == method) & (curve["kind"] == kind)].groupby("fraction")["kappa"]
            if kind == "trained":
                axis.fill_between(kappa.min().index, kappa.min(), kappa.max(), color=style["color"], alpha=0.2, lw=0)
            axis.plot(kappa.mean(), lw=2, ms=5, label=KIND_NAMES[kind], **style)
        axis.axhline(0, color="black", ls=":", lw=1, label="chance: two random masks")
        axis.set_xscale("log")
        axis.set_xticks(fractions, [f"{fraction:.0%}" for fraction in fractions])
        axis.minorticks_off()
        axis.set_xlabel("most important pixels compared")
    axes[0].set_ylabel("mean kappa (1: the same pixels)")
    add_legend(figure, axes[0].get_legend_handles_labels()[0])
    add_title(
        figure,
        "Do the networks agree on the few most important pixels, or only on the rough region?",
        "(shaded: from the least to the most agreeing pair of trained networks)",
    )
    return figure


def strata_means(strata: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel a method, one line a stratum: mean IoU over pairs of trained networks, its interval and null."""
    shown = strata[(strata["network_a"] == "all") & (strata["kind"] == "trained")]
    methods, names = list(strata["method"].unique()), list(strata["stratum"].unique())
    figure, axes = panels(methods, titles, 3.2, 0.33 * len(names) + 0.9, margin=1.8, sharex=True, sharey=True)
    for axis, method in zip(axes, methods, strict=True):
        means = shown[shown["method"] == method].set_index("stratum").reindex(names)
        rows = range(len(names))
        axis.hlines(rows, means["iou_low"], means["iou_high"], color=KINDS["trained"]["color"], lw=3)
        axis.plot(means["iou"], rows, ms=5, ls="none", **KINDS["trained"])
        axis.plot(means["null"], rows, **NULL)
        for row, patches in enumerate(means["patches"].fillna(0).astype(int)):
            axis.text(1.01, row, str(patches), transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.text(1.01, -0.8, "patches", transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.set_yticks(rows, names, fontsize=8)
        axis.set_xlabel("mean IoU")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    label = f"{KIND_NAMES['trained']}: mean over pairs, 95 % interval"
    handles = [Line2D([], [], lw=3, ms=5, label=label, **KINDS["trained"]), Line2D([], [], label=NULL_NAME, **NULL)]
    add_legend(figure, handles)
    add_title(figure, "Do two trained networks agree more where both are right?")
    return figure


def performance_gaps(gaps: pd.DataFrame, tests: dict[str, dict], titles: Mapping[str, str]) -> Figure:
    """One panel a method, one point a pair of architectures: gap in AUROC against agreement, with Mantel's test."""
    figure, axes = panels(list(tests), titles, 4.0, 3.3)
    words = {"normalised": "normalised agreement A", "excess": "IoU above the null"}
    for axis, (method, test) in zip(axes, tests.items(), strict=True):
        points = gaps[gaps["method"] == method]
        if not points.empty:
            axis.vlines(points["auroc_gap"], points["low"], points["high"], color="#00467f", alpha=0.4, lw=2)
            axis.plot(points["auroc_gap"], points["agreement"], "o", color="#00467f")
            axis.set_ylabel(words[str(points["measure"].iloc[0])])
        if len(points) <= 10:
            _label(axis, points)
        axis.axhline(0, color="black", ls=":", lw=1)
        axis.set_xlim(0, max(1.5 * points["auroc_gap"].max(), 1e-3) if len(points) else 1)
        axis.set_xlabel("gap in test AUROC (0: they perform alike)")
        count = f"{test['architectures']} architectures"
        result = f"undefined for {count}" if test["rho"] is None else f"rho {test['rho']:.2f}, p {test['p']:.2f}"
        if test["rho"] is not None and test["critical_rho"] is None:
            result += f"; {count} are too few"
        axis.set_title(f"{axis.get_title()}\n{result}", fontsize=9)
    add_title(figure, "Do networks that perform alike agree more? One point a pair of architectures")
    return figure


def _label(axis: Axes, points: pd.DataFrame) -> None:
    """The names beside each point, moved down where two would lie on each other."""
    room = 0.13 * (points["high"].fillna(points["agreement"]).max() - min(points["low"].min(), 0))  # of two lines
    width = 0.6 * points["auroc_gap"].max()
    labels: list[tuple[float, float]] = []
    for pair in points.sort_values("agreement", ascending=False).to_dict("records"):
        above = [height - room for gap, height in labels if abs(gap - pair["auroc_gap"]) < width]
        labels.append((pair["auroc_gap"], min([pair["agreement"], *above])))
        axis.annotate(
            f"{pair['network_a']} ~\n{pair['network_b']}",
            labels[-1],
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
