"""Figures of what agreement depends on: how much is compared, which patches, and how alike networks perform."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcam_agreement.figures.panels import KIND_NAMES, KINDS, NULL, NULL_NAME, panels


def curves(curve: pd.DataFrame) -> Figure:
    """One panel a method: mean kappa over the top fraction of trained pairs with their spread, ceiling and floor."""
    methods = list(curve["method"].unique())
    figure, axes = panels(methods, 3.4, 3.0, sharex=True, sharey=True)
    fractions = sorted(curve["fraction"].unique())
    for axis, method in zip(axes, methods, strict=True):
        for kind, style in KINDS.items():
            own = curve[(curve["method"] == method) & (curve["kind"] == kind)].groupby("fraction")["kappa"]
            if kind == "trained":
                axis.fill_between(own.min().index, own.min(), own.max(), color=style["color"], alpha=0.2, lw=0)
            axis.plot(own.mean(), lw=2, ms=5, label=KIND_NAMES[kind], **style)
        axis.axhline(0, color="black", ls=":", lw=1, label="chance: two random masks")
        axis.set_xscale("log")
        axis.set_xticks(fractions, [f"{fraction:.0%}" for fraction in fractions])
        axis.minorticks_off()
        axis.set_xlabel("most important pixels compared")
    axes[0].set_ylabel("mean kappa (1: the same pixels)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(
        "Do the networks agree on the few most important pixels, or only on the rough place?\n"
        "(shaded: from the least to the most agreeing pair of trained networks)",
        fontsize=10,
    )
    return figure


def strata_means(strata: pd.DataFrame) -> Figure:
    """One panel a method, one line a stratum: mean IoU over pairs of trained networks, its interval and null."""
    shown = strata[(strata["network_a"] == "all") & (strata["kind"] == "trained")]
    methods, names = list(strata["method"].unique()), list(strata["stratum"].unique())
    figure, axes = panels(methods, 3.2, 0.33 * len(names) + 0.9, margin=1.8, sharex=True, sharey=True)
    for axis, method in zip(axes, methods, strict=True):
        own = shown[shown["method"] == method].set_index("stratum").reindex(names)
        rows = range(len(names))
        axis.hlines(rows, own["iou_low"], own["iou_high"], color=KINDS["trained"]["color"], lw=3)
        axis.plot(own["iou"], rows, ms=5, ls="none", **KINDS["trained"])
        axis.plot(own["null"], rows, **NULL)
        for row, patches in enumerate(own["patches"].fillna(0).astype(int)):
            axis.text(1.01, row, str(patches), transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.text(1.01, -0.8, "patches", transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.set_yticks(rows, names, fontsize=8)
        axis.set_xlabel("mean IoU")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    label = f"{KIND_NAMES['trained']}: mean over pairs, 95 % interval"
    handles = [Line2D([], [], lw=3, ms=5, label=label, **KINDS["trained"]), Line2D([], [], label=NULL_NAME, **NULL)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle("Do two trained networks agree more where both are right?", fontsize=10)
    return figure


def performance_gaps(gaps: pd.DataFrame, tests: dict[str, dict]) -> Figure:
    """One panel a method, one point a pair of architectures: gap in AUROC against agreement, with Mantel's test."""
    figure, axes = panels(list(tests), 4.0, 3.3)
    words = {"normalised": "normalised agreement A", "excess": "IoU above the null"}
    for axis, (method, test) in zip(axes, tests.items(), strict=True):
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
        axis.set_xlim(0, max(1.5 * own["auroc_gap"].max(), 1e-3) if len(own) else 1)
        axis.set_xlabel("gap in test AUROC (0: they perform alike)")
        said = "too few pairs" if test["rho"] is None else f"rho {test['rho']:.2f}, p {test['p']:.2f}"
        power = "" if test["critical_rho"] else f"; {test['architectures']} architectures cannot be significant"
        axis.set_title(f"{axis.get_title()}\n{said}{power}", fontsize=9)
    figure.suptitle(
        "Do networks that perform alike look at the same tissue? One point a pair of architectures", fontsize=11
    )
    return figure
