"""What a run found, in plain sentences with its numbers: pure text from the summary and the tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd

ENOUGH_SLIDES = 10
FEW_PATCHES = 20


def answer(summary: dict, pairs: pd.DataFrame, strata: pd.DataFrame, curve: pd.DataFrame, fraction: float) -> str:
    """A page in Markdown: the answer by method, what it rests on, and what it cannot say."""
    aurocs = summary["auroc"]
    trained = set(pairs.loc[pairs["kind"] != "floor", ["network_a", "network_b"]].to_numpy().ravel())
    performing = [value for name, value in aurocs.items() if name in trained]
    lines = ["# Do the networks look at the same tissue?", ""]
    if performing:
        lines += [
            f"{len(performing)} trained networks reach a test AUROC of {min(performing):.3f} to {max(performing):.3f}. "
            f"On {summary['explained_patches']} test patches of {summary['explained_slides']} slides, the most "
            f"important {fraction:.0%} of the pixels of each network's heatmaps were compared, pair by pair.",
            "",
        ]
    for method, found in summary["agreement"].items():
        lines += [f"- **{method}**: {_of_method(found)}"]
        if found["iou"] is not None:
            own, of_strata, of_curve = (
                table[(table["method"] == method) & (table["kind"] == "trained")] for table in (pairs, strata, curve)
            )
            more = [_of_bands(own), _of_strata(of_strata), _of_curve(of_curve), _of_gap(summary["auroc_gap"][method])]
            more.append(_of_faithfulness(summary["faithfulness"][method]))
            lines += [f"  - {text}" for text in more if text]
    lines += ["", "## What this cannot say", ""]
    lines += [f"- {limit}" for limit in _limits(summary, pairs, strata)]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line)) + "\n"


def _of_method(found: dict) -> str:
    if found["iou"] is None:
        return "no pair of trained networks that differ in more than the seed could be compared."
    sentences = [
        f"two networks share a mean IoU of {found['iou']:.3f}{_interval(found, 'iou')} on the same patch"
        + ("." if found["null"] is None else f", and {found['null']:.3f} on different ones (null).")
    ]
    if found["ceiling"] is not None:
        sentences.append(f"One network and its twin from another seed share {found['ceiling']:.3f} (ceiling).")
    if found["floor"] is not None:
        inside = found["iou_low"] is not None and found["floor"] >= found["iou_low"]
        doubt = ", which the interval does not exclude" if inside else ""
        sentences.append(f"With an untrained network they share {found['floor']:.3f} (floor){doubt}.")
    if found["self_agreement"] is not None:
        sentences.append(
            f"One network explained again with other draws shares {found['self_agreement']:.3f} with itself: more than "
            "that no two can be expected to share."
        )
    sentences.append(_of_normalised(found))
    return " ".join(sentences)


def _of_normalised(found: dict) -> str:
    a, low, high = found["normalised"], found["normalised_low"], found["normalised_high"]
    if a is None:
        return "Where this lies between null and ceiling is undefined (`undefined` in plots/agreement.csv says why)."
    interval = _interval(found, "normalised", ".2f")
    text = f"Between null (0) and ceiling (1) that is, where it is defined, A = {a:.2f}{interval}: "
    if low is None:
        return text + "how certain, the slides cannot say."
    if low <= 0:
        return text + "it is not certain that they share anything about the patch."
    if high >= 1:
        return text + "something about the patch, and perhaps as much as two trainings of one architecture."
    return text + "something about the patch, but less than two trainings of one architecture."


def _of_bands(pairs: pd.DataFrame) -> str:
    """How many pairs stand out where all are judged at once."""
    if pairs["excess_band_low"].isna().all():
        return ""
    above_null, above_floor = ((pairs[f"{name}_band_low"] > 0).sum() for name in ("excess", "above_floor"))
    text = f"All pairs judged at once (95 % bands), {above_null} of {len(pairs)} pairs share more than their null"
    if pairs["above_floor"].notna().any():
        text += f", {above_floor} by more than pairs with an untrained network do"
    return text + "."


def _of_strata(strata: pd.DataFrame) -> str:
    """Whether they agree more where they are right."""
    rows = strata[(strata["network_a"] == "all") & (strata["patches"] > 0)].set_index("stratum")
    sentences = []
    for label in ("tumour", "normal"):
        shares = [
            f"{rows['iou'][name]:.3f} where {count} {verb} right ({_patches(rows['patches'][name])})"
            for count, verb in (("both", "are"), ("one", "is"), ("none", "is"))
            if (name := f"{label}, {count} right") in rows.index
        ]
        if shares:
            sentences.append(f"On {label} patches they share {', '.join(shares)}.")
    return " ".join(sentences)


def _of_curve(curve: pd.DataFrame) -> str:
    """Whether they agree on the most important pixels of all."""
    kappa = curve.groupby("fraction")["kappa"].mean().dropna()
    if len(kappa) < 2:
        return ""
    few, many = kappa.index[[0, -1]]
    text = f"Of the {few:.0%} most important pixels they share a kappa of {kappa[few]:.3f}, of the {many:.0%} most "
    return f"{text}important {kappa[many]:.3f} (0: chance, whatever the number of pixels)."


def _of_gap(gap: dict) -> str:
    """Whether networks that perform alike agree more."""
    if gap["rho"] is None:
        return ""
    agreement = {"normalised": "A", "excess": "what is shared beyond the null"}[gap["measure"]]
    return (
        f"Over {gap['architectures']} architectures, the gap in AUROC and {agreement} have a rank correlation of "
        f"{gap['rho']:.2f} (p = {gap['p']:.2f})."
    )


def _of_faithfulness(found: dict) -> str:
    passed = found["networks"] - found["uninformative"] - found["undefined"]
    text = (
        f"Deleted or inserted from their highest pixels on, the heatmaps of {passed} of {found['networks']} trained "
        "networks change the score sooner than the same heatmaps at random places."
    )
    if found["uninformative"]:
        text += (
            f" Those of {found['uninformative']} do not, or not certainly: they are uninformative, and it is not shown "
            "that their agreement means anything, also where it is a ceiling (plots/faithfulness.csv)."
        )
    if found["undefined"]:
        text += f" For {found['undefined']} it is undefined."
    return text


def _patches(count: int) -> str:
    return "1 patch" if count == 1 else f"{count} patches"


def _interval(found: dict, name: str, form: str = ".3f") -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return "" if low is None else f" (95 % interval {low:{form}} to {high:{form}})"


def _limits(summary: dict, pairs: pd.DataFrame, strata: pd.DataFrame) -> list[str]:
    limits = ["Agreement says that networks look at the same place, not that the place is right."]
    limits += _leaks(summary["data"])
    slides = summary["explained_slides"]
    if slides < 2:
        limits.append("All patches are of one slide: there is no null and no interval.")
    elif slides < ENOUGH_SLIDES:
        limits.append(f"{slides} slides are few: intervals are wide, and rest on these slides being like others.")
    if slides == summary["explained_patches"] > 1:
        limits.append("Every patch counts as a slide of its own; where several are of one, intervals are too narrow.")
    lacking = pairs[(pairs["kind"] == "trained") & pairs["normalised"].isna()]
    lacking = lacking.assign(pair=lacking["network_a"] + " ~ " + lacking["network_b"])
    for reason, group in lacking.groupby("undefined", sort=False):
        for named, own in _alike(group.groupby("method", sort=False)["pair"].agg(", ".join)).items():
            limits.append(f"A is undefined for {named}{_under(own, summary)}: {reason}.")
    weak = {name: _why_not(gap) for name, gap in summary["auroc_gap"].items() if gap["critical_rho"] is None}
    for reason, own in _alike(weak).items():
        limits.append(
            f"No correlation of performance and agreement could be significant{_under(own, summary)}: {reason}."
        )
    shown = strata[(strata["network_a"] == "all") & (strata["kind"] == "trained")]
    if shown["patches"].between(1, FEW_PATCHES - 1).any():
        limits.append(f"Shares on fewer than {FEW_PATCHES} patches say little; plots/strata.csv has their intervals.")
    for name, gap in summary["auroc_gap"].items():
        if gap["critical_rho"] is not None:
            limits.append(f"Under {name}, only a rank correlation beyond ±{gap['critical_rho']:.2f} is significant.")
    for name, found in summary["agreement"].items():
        bad = {key: found[key] for key in ("constant", "unconverged") if found[key]}
        if bad:
            counted = " and ".join(f"{value} {key}" for key, value in bad.items())
            limits.append(f"Of the heatmaps of {name}, {counted} (plots/heatmaps.csv).")
    return limits


def _alike(values: Mapping[str, str] | pd.Series) -> dict[str, list[str]]:
    """Of each value the names that have it."""
    found: dict[str, list[str]] = {}
    for name, value in values.items():
        found.setdefault(value, []).append(str(name))
    return found


def _why_not(gap: dict) -> str:
    few = gap["rho"] is not None or gap["architectures"] < 3
    return f"{gap['architectures']} architectures {'are too few' if few else 'perform or agree all alike'}"


def _under(methods: list[str], summary: dict) -> str:
    return "" if len(methods) == len(summary["agreement"]) else f" under {', '.join(methods)}"


def _leaks(data: dict) -> list[str]:
    """That splits share something, loudly."""
    counts = {name: data[f"{name}_in_two_splits"] for name in ("patches", "slides")}
    found = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [f"**The splits leak**: {found} are in two of them, so scores on test are too good."] if found else []


def _wrap(line: str) -> list[str]:
    item = len(line) - len(line.lstrip(" -")) if line.lstrip().startswith("- ") else 0
    return textwrap.wrap(line, 100, subsequent_indent=" " * item) or [""]
