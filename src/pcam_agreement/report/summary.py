"""The few numbers of a run that experiments compare, and its tables for a terminal: pure, no files."""

import textwrap
from collections.abc import Mapping
from math import ceil

import numpy as np
import pandas as pd

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.report.shares import SHARES
from pcam_agreement.report.tables import number

LISTED = 6  # recipes, up to which every pair has a line
NAME, CELL = 32, 12  # characters of the first column, of the others: an interval of two negative ends and a blank
ESTIMATES = ("R", *SHARES, "trainings_needed")


def summary(
    scores: dict[str, dict[str, float]],
    decompositions: Mapping[str, Decomposition],
    means: pd.DataFrame,
    maps: pd.DataFrame,
    gaps: dict[str, dict],
    faithful: dict[str, dict],
    slides: int,
    data: dict[str, int],
) -> dict:
    """The few numbers that `dvc exp show` compares; None where there is none, or it is not finite.

    agreement.<method>: R, the shares and the number of trainings to average, each with _low and _high, the 95 %
    interval; iou and null are means over pairs of networks of different recipes (_between) and of one (_within);
    constant and unconverged count heatmaps of all networks, unconverged_untrained those of untrained ones.
    decompositions: each method's, at the headline's scale;
    means: `tables.means_table` of all methods; gaps: see `gaps.gap_test`, of the methods that have one; faithful: see
    `count_verdicts`; slides: how many the explained patches are of; data: see `audit.totals`.
    """
    agreement = {}
    for method, decomposition in decompositions.items():
        estimates = {
            name: decomposition.shares[name] if name in SHARES else getattr(decomposition, name) for name in ESTIMATES
        }
        numbers: dict[str, float | int | None] = {}
        for name, estimate in estimates.items():
            of_name = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            numbers |= {key: number(value) for key, value in of_name.items()}
        of_kind = means[means["method"] == method].set_index("kind")
        for kind in ("between", "within"):
            for measure in ("iou", "null"):
                numbers[f"{measure}_{kind}"] = number(of_kind[measure].get(kind))
        of_method = maps[maps["method"] == method]
        counts = {name: int(of_method[name].sum()) for name in ("constant", "unconverged")}
        untrained = of_method["training"].str.startswith("untrained")
        counts["unconverged_untrained"] = int(of_method["unconverged"][untrained].sum())
        agreement[method] = {**numbers, **counts}
    return {
        "explained_patches": int(maps["patches"].max()),
        "explained_slides": slides,
        "auroc": {network: round(values["auroc"], 4) for network, values in scores.items()},
        "agreement": agreement,
        "auroc_gap": {method: gap for method, gap in gaps.items() if gap},
        "faithfulness": faithful,
        "data": data,
    }


def explained(summary: dict) -> str:
    """How many test patches are explained, and of how many slides: Kaggle's files name none, and each counts as one."""
    patches, slides = summary["explained_patches"], summary["explained_slides"]
    of_slides = ", each counted as a slide" if slides == patches > 1 else f" of {count(slides, 'slide')}"
    return f"{count(patches, 'test patch', 'test patches')}{of_slides}"


def count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def as_text(summary: dict, pairs: pd.DataFrame, width: int = 80) -> str:
    """For a terminal: the shares of every method; then mean IoU and weighted IoU of every two recipes, by method.

    Of many recipes only the mean IoU over their pairs. pairs: an `agreement_table` of all methods.
    """
    agreement = summary["agreement"]
    methods = list(agreement)
    recipes = pairs.assign(
        of=pairs["recipe_a"]
        + np.where(pairs["kind"] == "within", " (own trainings)", " ~ " + pairs["recipe_b"])
        + np.where(pairs["kind"] == "untrained", " *", "")
    )
    wide = recipes.pivot_table(index="of", columns="method", values=["iou", "weighted_iou"], sort=False, dropna=False)
    many = len({*pairs["recipe_a"], *pairs["recipe_b"]}) > LISTED
    names = NAME if many else max(NAME, *map(len, wide.index))
    fit = max(1, (width - names) // CELL)
    lines = []
    for start in range(0, len(methods), fit):
        shown = methods[start : start + fit]
        lines += [*_shares(agreement, shown, names), ""]
        masks = "mean IoU of top-fraction masks"
        if many:
            lines += [*_block(masks, _means(agreement, "iou", shown), names), ""]
        else:
            for measure, title in (("iou", masks), ("weighted_iou", "mean weighted IoU")):
                lines += [*_block(title, pd.DataFrame(wide[measure]).reindex(columns=shown), names), ""]
        lines += [*_block("null: IoU on different patches", _means(agreement, "null", shown), names), ""]
    rest = "Every pair is in plots/agreement.csv." if many else "*: one or both untrained."
    closing = (
        f"Explained: {explained(summary)}. Shares are of what depends on the patch in where a network looks. {rest} "
        f"Test AUROC: {_aurocs(summary['auroc'])}."
    )
    return "\n".join([*lines, *textwrap.wrap(closing, width)])


def _shares(agreement: dict, methods: list[str], names: int) -> list[str]:
    """The lines of shares, R and the trainings needed, each with its interval below, of some methods."""
    lines = [*_head("shares, with 95 % intervals", methods, names)]
    words = {
        "common": "shared by two recipes (mean)",
        "input": "  seen by untrained ones too",
        "learned": "  learned",
        "recipe": "of the recipe",
        "training": "of the single training",
        "noise": "method noise",
        "R": "R (1: as alike as own trainings)",
        "trainings_needed": "trainings to average",
    }
    for name, text in words.items():
        values = [_rounded(agreement[method][name], name) for method in methods]
        if name in ("input", "learned", "noise") and all(value is None for value in values):
            continue
        form = ".0f" if name == "trainings_needed" else ".2f"
        lines.append(f"{text:{names}}" + "".join(f"{_number(value, form):>{CELL}}" for value in values))
        bounds = [[_rounded(agreement[method][f"{name}_{end}"], name) for end in ("low", "high")] for method in methods]
        if any(low is not None or high is not None for low, high in bounds):
            cells = (_range(low, high, form) for low, high in bounds)
            lines.append(" " * names + "".join(f"{cell:>{CELL}}" for cell in cells))
    return lines


def _rounded(value: float | None, name: str) -> float | None:
    """A number of trainings is rounded up."""
    return ceil(value) if value is not None and name == "trainings_needed" else value


def _aurocs(of_networks: Mapping[str, float]) -> str:
    """The lowest and the highest of each recipe's trainings, and of untrained networks."""
    trained: dict[str, list[float]] = {}
    untrained: list[float] = []
    for network, value in of_networks.items():
        recipe, _, training = network.rpartition("-")
        (untrained if training.startswith("untrained") else trained.setdefault(recipe, [])).append(value)
    spans = [f"{recipe} {_span(values)}" for recipe, values in trained.items()]
    return ", ".join([*spans, *([f"untrained {_span(untrained)}"] if untrained else [])])


def _span(values: list[float]) -> str:
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def _means(agreement: dict, measure: str, methods: list[str]) -> pd.DataFrame:
    """The means of a measure over pairs of trained networks, by method."""
    kinds = {"between": "two recipes", "within": "two trainings of one recipe"}
    rows = {text: [agreement[method][f"{measure}_{kind}"] for method in methods] for kind, text in kinds.items()}
    return pd.DataFrame.from_dict(rows, "index", dtype=float, columns=methods)


def _block(title: str, wide: pd.DataFrame, names: int) -> list[str]:
    cells = ("".join(f"{_number(value, '.3f'):>{CELL}}" for value in row) for row in wide.to_numpy())
    return [
        *_head(title, list(wide.columns), names),
        *(f"{name:{names}}{row}" for name, row in zip(wide.index, cells, strict=True)),
    ]


def _head(title: str, methods: list[str], names: int) -> list[str]:
    short = [
        name if len(name) <= 9 else "".join(part[0] for part in name.split("_")) if "_" in name else name[:9]
        for name in methods
    ]
    head = f"{title:{names}}" + "".join(f"{name:>{CELL}}" for name in short)
    return [head, "-" * len(head)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or not np.isfinite(value) else format(value, form).replace("-0.00", "0.00")


def _range(low: float | None, high: float | None, form: str) -> str:
    """An interval; "≥ n" where it has no upper end."""
    low_end, high_end = _number(low, form), _number(high, form)
    if low is None:
        return "-" if high is None else f"≤{high_end}"
    return f"≥{low_end}" if high is None else f"{low_end}–{high_end}"
