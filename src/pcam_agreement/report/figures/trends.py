"""Figures of agreement against the top fraction, by stratum of patches, and against the gap in performance."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcam_agreement.report.figures.panels import (
    BEYOND,
    ENDS,
    KINDS,
    add_legend,
    add_title,
    end_axis,
    kind_names,
    panels,
    wide_enough,
)
from pcam_agreement.report.gaps import said_of_test

READABLE = 50  # pairs, up to which intervals can be told apart


def curves(curve: pd.DataFrame, titles: Mapping[str, str], word: str) -> Figure:
    """One panel a method: mean kappa over the top fraction, of each kind of pairs; word: for a recipe."""
    methods, names = list(titles), kind_names(word)
    figure, axes = panels(methods, titles, 3.4, 3.0, sharex=True, sharey=True)
    fractions = sorted(curve["fraction"].unique())
    for axis, method in zip(axes, methods, strict=True):
        for kind, style in KINDS.items():
            kappa = curve[(curve["method"] == method) & (curve["kind"] == kind)].groupby("fraction")["kappa"]
            if kind == "between":
                axis.fill_between(kappa.min().index, kappa.min(), kappa.max(), color=style["color"], alpha=0.2, lw=0)
            axis.plot(kappa.mean(), lw=2, ms=5, label=names[kind], **style)
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
        f"(kappa: IoU corrected for chance; shaded: the range over pairs of networks of two {word}s)",
    )
    return figure


def strata_means(strata: pd.DataFrame, titles: Mapping[str, str], word: str) -> Figure:
    """One panel a method, one line a stratum: the mean excess of IoU over its null, with its interval."""
    methods, names = list(titles), list(strata["stratum"].unique())
    kinds = [kind for kind in ("between", "within") if kind in set(strata["kind"])]
    figure, axes = panels(methods, titles, 3.2, 0.4 * len(names) + 0.9, margin=1.8, sharex=True, sharey=True)
    for axis, method in zip(axes, methods, strict=True):
        for place, kind in zip((-0.14, 0.14), kinds, strict=False):
            rows = strata[(strata["method"] == method) & (strata["kind"] == kind)].set_index("stratum").reindex(names)
            lines = [row + place for row in range(len(names))]
            axis.hlines(lines, rows["excess_low"], rows["excess_high"], color=KINDS[kind]["color"], lw=2.5)
            axis.plot(rows["excess"], lines, ms=5, ls="none", **KINDS[kind])
        shown = strata[(strata["method"] == method) & strata["kind"].isin(kinds)]
        patches = shown.groupby("stratum")["patches"].max().reindex(names)
        for row, count in enumerate(patches.fillna(0).astype(int)):
            axis.text(1.01, row, str(count), transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.text(1.01, -0.7, "patches", transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.axvline(0, color="black", ls=":", lw=1)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_xlabel("IoU less its null")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    axes[0].set_xlim(*wide_enough(*axes[0].get_xlim()))
    if kinds:
        words = kind_names(word)
        add_legend(figure, [Line2D([], [], lw=2.5, ms=5, label=words[kind], **KINDS[kind]) for kind in kinds])
    add_title(
        figure,
        "Do two networks agree more where both are right? Mean IoU less that on different patches, 95 % interval",
        "(nothing is shown of fewer than five patches)",
    )
    return figure


def performance_gaps(gaps: pd.DataFrame, tests: Mapping[str, dict], titles: Mapping[str, str]) -> Figure:
    """One panel a method, one point a pair of architectures: gap in mean AUROC against A, with Mantel's test."""
    figure, axes = panels(list(tests), titles, 4.6, 3.3, 2)
    shortened = False
    for axis, (method, test) in zip(axes, tests.items(), strict=True):
        points = gaps[gaps["method"] == method]
        alpha = 0.4 if len(points) <= READABLE else 0.15
        axis.vlines(points["auroc_gap"], points["low"], points["high"], color="#00467f", alpha=alpha, lw=2)
        dots = pd.DataFrame({"x": points["auroc_gap"], "y": points["agreement"]})
        axis.plot(dots["x"], dots["y"], "o", color="#00467f")
        axis.axhline(0, color="black", ls=":", lw=1)
        shortened |= end_axis(axis, dots, "y", "#00467f")
        if len(points) <= 10:
            _label(axis, points)
        axis.set_xlim(0, max(1.1 * points["auroc_gap"].max(), 1e-3))
        axis.set_xlabel("gap in mean test AUROC (0: they perform alike)")
        axis.set_ylabel("normalised agreement A")
        axis.set_title(f"{axis.get_title()}\n{test['architectures']} architectures: {said_of_test(test)}", fontsize=9)
    title = "Do architectures that perform alike look alike? One point a pair of architectures"
    nothing = "(no rank correlation: an A is undefined, or all A or gaps are the same)"
    undefined = any(test["rho"] is None for test in tests.values())
    add_title(figure, title, *([nothing] if undefined else []), *([BEYOND] if shortened else []))
    return figure


def _label(axis: Axes, points: pd.DataFrame) -> None:
    """The names of the pairs in a column beside the panel, in the order of their points, with a line to each."""
    known = points.dropna(subset="agreement").sort_values(["agreement", "auroc_gap"])
    rows = known.assign(agreement=known["agreement"].clip(*ENDS)).to_dict("records")  # where they are drawn
    for row, pair in enumerate(rows):
        axis.annotate(
            f"{pair['architecture_a']} ~ {pair['architecture_b']}",
            (pair["auroc_gap"], pair["agreement"]),
            (1.02, (row + 0.5) / len(rows)),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#808080"},
        )
