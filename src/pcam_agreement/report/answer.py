"""The result of a run in plain sentences with its numbers: pure text from the summary and the tables."""

import textwrap
from collections.abc import Mapping

import pandas as pd

ENOUGH_SLIDES = 10
FEW_PATCHES = 20
SYNTHETIC = (
    "**The tissue is synthetic** (procedural H&E): the numbers show how the comparison works, and are no "
    "finding about real tissue."
)


def answer(
    summary: dict,
    pairs: pd.DataFrame,
    strata: pd.DataFrame,
    curve: pd.DataFrame,
    fraction: float,
    titles: Mapping[str, str],
    synthetic: bool,
) -> str:
    """A page in Markdown: the answer by method, what it rests on, and what it cannot say.

    titles: of the methods; synthetic: whether the tissue is.
    """
    aurocs = summary["auroc"]
    trained = set(pairs.loc[pairs["kind"] != "floor", ["network_a", "network_b"]].to_numpy().ravel())
    performing = [value for name, value in aurocs.items() if name in trained]
    lines = ["# Do the networks look at the same tissue?", ""]
    if synthetic:
        lines += [SYNTHETIC, ""]
    if performing:
        lines += [
            f"{len(performing)} trained networks reach a test AUROC of {min(performing):.3f} to {max(performing):.3f}. "
            f"Each was explained on {summary['explained_patches']} test patches of {summary['explained_slides']} "
            f"slides, and the top {fraction:.0%} of the pixels of their heatmaps were compared, pair by pair.",
            "",
        ]
    for method, numbers in summary["agreement"].items():
        lines += [f"- **{titles[method]}**: {_of_method(numbers)}"]
        if numbers["iou"] is not None:
            of_pairs, of_strata, of_curve = (
                table[(table["method"] == method) & (table["kind"] == "trained")] for table in (pairs, strata, curve)
            )
            more = [_of_bands(of_pairs), _of_strata(of_strata), _of_curve(of_curve)]
            more += [_of_gap(summary["auroc_gap"][method]), _of_faithfulness(summary["faithfulness"][method])]
            lines += [f"  - {text}" for text in more if text]
    lines += ["", "## What this cannot say", ""]
    lines += [f"- {limit}" for limit in _limits(summary, pairs, strata, titles)]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line)) + "\n"


def _of_method(numbers: dict) -> str:
    if numbers["iou"] is None:
        return "there are no two trained networks that differ in more than the seed and could be compared."
    sentences = [
        f"the mean IoU of two trained networks is {numbers['iou']:.3f}{_interval(numbers, 'iou')} on the same patch"
        + ("." if numbers["null"] is None else f", and {numbers['null']:.3f} on different patches (null).")
    ]
    if numbers["ceiling"] is not None:
        sentences.append(
            f"It is {numbers['ceiling']:.3f} between two trainings of one architecture from different seeds (ceiling)."
        )
    if numbers["floor"] is not None:
        inside = numbers["iou_low"] is not None and numbers["floor"] >= numbers["iou_low"]
        doubt = ", which lies within the interval" if inside else ""
        sentences.append(f"It is {numbers['floor']:.3f} with an untrained network (floor){doubt}.")
    if numbers["repeat_agreement"] is not None:
        sentences.append(
            "The method is stochastic: two heatmaps of one network from different perturbation samples have a mean "
            f"IoU of {numbers['repeat_agreement']:.3f}, which limits that of two networks."
        )
    sentences.append(_of_normalised(numbers))
    return " ".join(sentences)


def _of_normalised(numbers: dict) -> str:
    a, low, high = numbers["normalised"], numbers["normalised_low"], numbers["normalised_high"]
    if a is None:
        return "Normalised agreement A is undefined (`undefined` in plots/agreement.csv has the reason)."
    interval = _interval(numbers, "normalised", ".2f")
    text = f"Normalised agreement (0 at the null, 1 at the ceiling) is A = {a:.2f}{interval}"
    if low is None:
        return f"{text}; these slides give no interval."
    if low <= 0:
        return f"{text}: it is not certain that the agreement depends on the patch."
    if high >= 1:
        return f"{text}: it depends on the patch, and may be as high as that of two trainings of one architecture."
    return f"{text}: it depends on the patch, but is lower than that of two trainings of one architecture."


def _of_bands(pairs: pd.DataFrame) -> str:
    """How many pairs lie above the null, and above the floor, all at once."""
    if pairs["excess_band_low"].isna().all():
        return ""
    above_null, above_floor = ((pairs[f"{name}_band_low"] > 0).sum() for name in ("excess", "above_floor"))
    text = f"With 95 % bands for all pairs at once, {above_null} of {len(pairs)} pairs agree more than their null"
    if pairs["above_floor"].notna().any():
        text += f", and {above_floor} exceed it by more than pairs with an untrained network do"
    return f"{text}."


def _of_strata(strata: pd.DataFrame) -> str:
    """Mean IoU where both, one or none of two networks are right."""
    rows = strata[(strata["network_a"] == "all") & (strata["patches"] > 0)].set_index("stratum")
    sentences = []
    for label in ("tumour", "normal"):
        means = [
            f"{rows['iou'][name]:.3f} where {count} {verb} right ({_patches(rows['patches'][name])})"
            for count, verb in (("both", "are"), ("one", "is"), ("none", "is"))
            if (name := f"{label}, {count} right") in rows.index
        ]
        if means:
            sentences.append(f"On {label} patches the mean IoU is {', '.join(means)}.")
    return " ".join(sentences)


def _of_curve(curve: pd.DataFrame) -> str:
    """Kappa at the smallest and the largest top fraction."""
    kappa = curve.groupby("fraction")["kappa"].mean().dropna()
    if len(kappa) < 2:
        return ""
    few, many = kappa.index[[0, -1]]
    text = f"Kappa is {kappa[few]:.3f} for the top {few:.0%} of the pixels and {kappa[many]:.3f} for the top {many:.0%}"
    return f"{text} (0 is chance, at any fraction)."


def _of_gap(gap: dict) -> str:
    """Whether networks that perform alike agree more."""
    if gap["rho"] is None:
        return ""
    agreement = {"normalised": "A", "excess": "the IoU above the null"}[gap["measure"]]
    return (
        f"Over {gap['architectures']} architectures, the rank correlation of the gap in AUROC and {agreement} is "
        f"{gap['rho']:.2f} (p = {gap['p']:.2f})."
    )


def _of_faithfulness(numbers: dict) -> str:
    tested = numbers["networks"]
    passed = tested - numbers["uninformative"] - numbers["undefined"]
    text = (
        f"Faithfulness: deleting or inserting a heatmap's highest pixels first changes the score sooner than the same "
        f"heatmap at random places for {passed} of the {tested} trained networks that were tested."
    )
    if numbers["uninformative"]:
        text += (
            f" For {numbers['uninformative']} it does not, or not certainly: their heatmaps are uninformative, and it "
            "is not shown that their agreement means anything (plots/faithfulness.csv)."
        )
    if numbers["undefined"]:
        text += f" For {numbers['undefined']} it is undefined."
    return text


def _patches(count: int) -> str:
    return "1 patch" if count == 1 else f"{count} patches"


def _interval(numbers: dict, name: str, form: str = ".3f") -> str:
    low, high = numbers[f"{name}_low"], numbers[f"{name}_high"]
    return "" if low is None else f" (95 % interval {low:{form}} to {high:{form}})"


def _limits(summary: dict, pairs: pd.DataFrame, strata: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    limits = [
        "Agreement means that networks use the same place, not that the place is right.",
        "Intervals are over slides: the agreement of other trainings may lie outside them.",
    ]
    limits += _leaks(summary["data"])
    slides = summary["explained_slides"]
    if slides < 2:
        limits.append("All patches are of one slide: there is no null and no interval.")
    elif slides < ENOUGH_SLIDES:
        limits.append(f"There are only {slides} slides: intervals are wide, and assume that these are like others.")
    if slides == summary["explained_patches"] > 1:
        limits.append("Every patch counts as a slide of its own; where several are of one, intervals are too narrow.")
    lacking = pairs[(pairs["kind"] == "trained") & pairs["normalised"].isna()]
    lacking = lacking.assign(pair=lacking["network_a"] + " ~ " + lacking["network_b"])
    for reason, group in lacking.groupby("undefined", sort=False):
        for named, methods in _alike(group.groupby("method", sort=False)["pair"].agg(", ".join)).items():
            limits.append(f"A is undefined for {named}{_under(methods, titles)}: {reason}.")
    weak = {name: _why_not(gap) for name, gap in summary["auroc_gap"].items() if gap["critical_rho"] is None}
    for reason, methods in _alike(weak).items():
        limits.append(
            f"No correlation of performance and agreement could be significant{_under(methods, titles)}: {reason}."
        )
    shown = strata[(strata["network_a"] == "all") & (strata["kind"] == "trained")]
    if shown["patches"].between(1, FEW_PATCHES - 1).any():
        limits.append(f"Means over fewer than {FEW_PATCHES} patches are uncertain; plots/strata.csv has intervals.")
    for name, gap in summary["auroc_gap"].items():
        if gap["critical_rho"] is not None:
            limits.append(
                f"With {titles[name]}, only a rank correlation beyond ±{gap['critical_rho']:.2f} is significant."
            )
    for name, numbers in summary["agreement"].items():
        counted = ", ".join(f"{numbers[kind]} are {kind}" for kind in ("constant", "unconverged") if numbers[kind])
        if counted:
            limits.append(f"Of the heatmaps by {titles[name]}, {counted} (plots/heatmaps.csv).")
    return limits


def _alike(values: Mapping[str, str] | pd.Series) -> dict[str, list[str]]:
    """The names that have each value."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(str(name))
    return names


def _why_not(gap: dict) -> str:
    few = gap["rho"] is not None or gap["architectures"] < 3
    return f"{gap['architectures']} architectures {'are too few' if few else 'perform or agree all alike'}"


def _under(methods: list[str], titles: Mapping[str, str]) -> str:
    return "" if len(methods) == len(titles) else f" with {', '.join(titles[name] for name in methods)}"


def _leaks(data: dict) -> list[str]:
    """A warning where splits share patches or slides."""
    counts = {name: data[f"{name}_in_two_splits"] for name in ("patches", "slides")}
    shared = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [f"**The splits leak**: {shared} are in two of them, so scores on test are too good."] if shared else []


def _wrap(line: str) -> list[str]:
    item = len(line) - len(line.lstrip(" -")) if line.lstrip().startswith("- ") else 0
    return textwrap.wrap(line, 100, subsequent_indent=" " * item) or [""]
