"""The few numbers of a run that experiments compare, and its table for a terminal: pure, no files."""

import textwrap

import pandas as pd

from pcam_agreement.report.bootstrap import Estimates
from pcam_agreement.report.tables import number


def summary(
    scores: dict[str, dict[str, float]],
    pairs: pd.DataFrame,
    maps: pd.DataFrame,
    estimates: dict[str, Estimates],
    gaps: dict[str, dict],
    faithful: dict[str, dict],
    chance: float,
    data: dict[str, int],
) -> dict:
    """The few numbers that `dvc exp show` compares; None where there is no such pair, or it is undefined.

    agreement.<method>: iou, kappa and null are means over the pairs of trained networks that differ in more than the
    seed, normalised over those of them where it is defined; _low and _high are 95 % intervals of these means. chance is
    the IoU of independent masks (None where their areas differ); ceiling the mean IoU of pairs that differ in the seed
    only, floor of pairs with an untrained network; repeat_agreement the mean IoU of trained networks' heatmaps with
    their own from other perturbation samples; constant and unconverged count heatmaps of all networks.
    auroc_gap.<method>: see `gap_test`; faithfulness.<method>: see `count_verdicts`; data: see `audit.totals`.
    """
    agreement = {}
    for method, group in pairs.groupby("method", sort=False):
        mean = group.groupby("kind")[["iou", "kappa", "null", "normalised"]].mean()
        of_method = maps[maps["method"] == method]
        is_trained = of_method["network"].isin(
            group.loc[group["kind"] != "floor", ["network_a", "network_b"]].to_numpy().ravel()
        )
        trained = (group["kind"] == "trained").to_numpy()
        of_iou = estimates[str(method)].interval_of_mean("iou", trained)
        defined = trained & group["normalised"].notna().to_numpy()
        of_normalised = estimates[str(method)].interval_of_mean("normalised", defined)
        agreement[method] = {
            "iou": number(mean["iou"].get("trained")),
            "iou_low": number(of_iou[0]),
            "iou_high": number(of_iou[1]),
            "kappa": number(mean["kappa"].get("trained")),
            "chance": number(chance),
            "null": number(mean["null"].get("trained")),
            "floor": number(mean["iou"].get("floor")),
            "ceiling": number(mean["iou"].get("ceiling")),
            "repeat_agreement": number(of_method.loc[is_trained, "repeat_iou"].mean()),
            "normalised": number(mean["normalised"].get("trained")),
            "normalised_low": number(of_normalised[0]),
            "normalised_high": number(of_normalised[1]),
            "constant": int(of_method["constant"].sum()),
            "unconverged": int(of_method["unconverged"].sum()),
        }
    return {
        "explained_patches": int(maps["patches"].max()),
        "explained_slides": int(pairs["slides"].max()),
        "auroc": {network: round(values["auroc"], 4) for network, values in scores.items()},
        "accuracy": {network: round(values["accuracy"], 4) for network, values in scores.items()},
        "agreement": agreement,
        "auroc_gap": gaps,
        "faithfulness": faithful,
        "data": data,
    }


def as_text(summary: dict, pairs: pd.DataFrame, width: int = 80) -> str:
    """The agreement table for a terminal: one row a pair, mean IoU by method, as many methods in a block as fit."""
    wide = pairs.assign(pair=pairs["network_a"] + " ~ " + pairs["network_b"]).pivot(
        index=["kind", "pair"], columns="method", values="iou"
    )
    methods, names = list(summary["agreement"]), max(len(pair) for _, pair in wide.index)
    fit = max(1, (width - names - 9) // 10)
    lines = []
    for start in range(0, len(methods), fit):
        lines += [*_block(summary["agreement"], wide[methods[start : start + fit]], names), ""]
    auroc = ", ".join(f"{network} {value:.3f}" for network, value in summary["auroc"].items())
    closing = (
        f"{summary['explained_patches']} test patches of {summary['explained_slides']} slides explained. "
        f"A is 0 at the null and 1 at the ceiling. Test AUROC: {auroc}."
    )
    return "\n".join([*lines[:-1], *textwrap.wrap(closing, width)])


def _block(agreement: dict, wide: pd.DataFrame, names: int) -> list[str]:
    """The lines of some methods."""
    short = [
        name if len(name) <= 9 else "".join(part[0] for part in name.split("_")) if "_" in name else name[:9]
        for name in wide.columns
    ]
    head = f"{'mean IoU of the top-fraction masks':{names + 9}}" + "".join(f"{name:>10}" for name in short)
    lines = [head, "-" * len(head)]
    for kind in ("trained", "ceiling", "floor"):
        for pair, row in wide.loc[kind].iterrows() if kind in wide.index.get_level_values(0) else ():
            lines.append(f"{kind:9}{pair:{names}}" + "".join(f"{value:10.3f}" for value in row))
    lines.append("-" * len(head))
    means = {"iou": "trained pairs", "ceiling": "ceiling", "floor": "floor", "null": "null", "chance": "chance"}
    if any(agreement[method]["repeat_agreement"] is not None for method in wide.columns):
        means["repeat_agreement"] = "same network, repeated"
    for key, label in means.items():
        lines.append(f"{'mean':9}{label:{names}}" + _cells(agreement, wide.columns, key))
        if key == "iou":
            lines.append(f"{'':9}{'  95 % interval':{names}}" + _cells(agreement, wide.columns, "iou_low", "iou_high"))
    lines.append(f"{'A':9}{'trained pairs':{names}}" + _cells(agreement, wide.columns, "normalised"))
    interval = _cells(agreement, wide.columns, "normalised_low", "normalised_high")
    return [*lines, f"{'':9}{'  95 % interval':{names}}" + interval]


def _cells(agreement: dict, methods: pd.Index, *keys: str) -> str:
    """One cell a method: the number, or both ends of an interval; - where it is undefined."""
    cells = []
    for method in methods:
        values = [agreement[method][key] for key in keys]
        short = ".3f" if len(keys) == 1 else ".2f"
        cells.append(
            "-" if None in values else "–".join(format(value, short).replace("-0.00", "0.00") for value in values)
        )
    return "".join(f"{cell:>10}" for cell in cells)
