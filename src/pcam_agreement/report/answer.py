"""The result of a run in plain sentences with its numbers: pure text from the estimates and the tables."""

import textwrap
from collections.abc import Mapping
from math import ceil, isfinite, isinf
from typing import Any

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.agreement.intervals import Estimate
from pcam_agreement.report.limits import Run, limits
from pcam_agreement.report.strata import FEW
from pcam_agreement.report.summary import count, explained

ALIKE = 0.02  # of AUROC, within which networks are said to perform alike
SYNTHETIC = "**The tissue is synthetic** (procedural H&E): these numbers are no finding about real tissue."


def recipe_word(recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """What to call a recipe: `architecture` where recipes differ in nothing else."""
    rest = [{key: value for key, value in block.items() if key != "architecture"} for block in recipes.values()]
    names = {block["architecture"] for block in recipes.values()}
    alone = len(names) == len(recipes) > 1 and all(block == rest[0] for block in rest)
    return "architecture" if alone else "recipe"


def answer(run: Run, summary: dict) -> str:
    """A page in Markdown: a sentence and R by method, what they rest on, and what they cannot say."""
    word = recipe_word(run.recipes)
    lines = [SYNTHETIC, ""] if run.synthetic else []
    lines += ["# Do the networks look at the same tissue?", "", "![Shares](../plots/figures/shares.png)", ""]
    if any(isfinite(decomposition.shares["common"].value) for decomposition in run.decompositions.values()):
        lines += ["Of what depends on the patch in where a network looks (in brackets: 95 % intervals):", ""]
    for method, decomposition in run.decompositions.items():
        patches = min(summary["explained_patches"], decomposition.patches or FEW)
        text = _of_method(run, method, decomposition, word) if patches >= FEW else _of_few(patches)
        lines.append(f"- **{run.titles[method]}**: {text}")
    lines += ["", *_rests_on(run, summary, word), "", "## What this cannot say", ""]
    lines += [f"- {limit}" for limit in limits(run, summary, word)]
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line)) + "\n"


def _of_method(run: Run, method: str, decomposition: Decomposition, word: str) -> str:
    """The shares, the number of trainings and R; where there are no shares, the mean IoU of given networks."""
    shares = decomposition.shares
    needed = _needed(decomposition.trainings_needed, word)
    if not isfinite(shares["common"].value):
        known = ""
        if isfinite(shares["training"].value):
            known = f"{_percent(shares['training'])} is of the single training; {needed}. Other "
        text = f"{known}shares and R are undefined: {shares['common'].reason}. {_of_pairs(run, method, word)}"
        return text.rstrip()
    seen = ""
    if isfinite(shares["input"].value):
        points = _percent(shares["input"]).replace(" %", " points", 1)
        seen = f", of which {points} are seen by untrained networks as well"
    noise = f" and {_percent(shares['noise'])} the method's noise" if isfinite(shares["noise"].value) else ""
    joint = "," if noise else " and"
    text = (
        f"two {word}s share {_percent(shares['common'])}{seen}; {_percent(shares['recipe'])} belongs to the "
        f"{word}{joint} {_percent(shares['training'])} to the single training{noise}; "
        f"{needed}."
    )
    if not isfinite(decomposition.R.value):
        return f"{text} R is undefined: {decomposition.R.reason}."
    return f"{text} R = {decomposition.R.value:.2f}{_interval(decomposition.R, '.2f')}."


def _of_few(patches: int) -> str:
    return f"nothing is said from {count(patches, 'patch', 'patches')}; {FEW} are the least."


def _percent(share: Estimate) -> str:
    low, high = 100 * share.low, 100 * share.high
    interval = f" ({low:.0f} to {high:.0f})" if isfinite(low) else ""
    return f"{round(100 * share.value)} %{interval}"


def _needed(needed: Estimate, word: str) -> str:
    """How many trainings must be averaged; rounded up."""
    if not isfinite(needed.value):
        return (
            f"no number of trainings averages to a heatmap about the {word} ({needed.reason or 'they share nothing'})"
        )
    interval = ""
    if isinf(needed.high) and isfinite(needed.low):
        interval = f" (at least {ceil(needed.low)})"
    elif isfinite(needed.low):
        interval = f" ({ceil(needed.low)} to {ceil(needed.high)})"
    return f"{ceil(needed.value)} trainings{interval} must be averaged until a heatmap is about the {word}"


def _of_pairs(run: Run, method: str, word: str) -> str:
    """Of given networks: the mean IoU of pairs on the same and on different patches, and whether it is more."""
    rows = run.means[run.means["method"] == method].set_index("kind").to_dict("index")
    text = []
    kinds = {"between": f"two networks of different {word}s", "within": f"two trainings of one {word}"}
    for kind, pairs in kinds.items():
        row = rows.get(kind)
        if row is None or not isfinite(row["iou"]):
            continue
        sentence = f"The mean IoU of {pairs} is {row['iou']:.3f} on the same patch"
        if isfinite(row["null"]):
            low, high = row["excess_low"], row["excess_high"]
            interval = f" (95 % interval over slides {low:.3f} to {high:.3f})" if isfinite(low) else ""
            sentence += f" and {row['null']:.3f} on different ones, {row['excess']:.3f}{interval} less"
            if isfinite(low):
                sentence += ": they share more on the same patch" if low > 0 else ": it is not certain that it differs"
        text.append(f"{sentence}.")
    return " ".join(text)


def _rests_on(run: Run, summary: dict, word: str) -> list[str]:
    """Networks, how they perform, patches, slides and what intervals cover; what R and the shares are."""
    aurocs = [summary["auroc"][network.name] for network in run.trained]
    covers = dict.fromkeys(decomposition.covers for decomposition in run.decompositions.values())
    meant = {
        "trainings and slides": f"Intervals cover other trainings of these {word}s and other slides.",
        "slides": "Intervals are over slides: another training may lie outside them.",
    }
    text = [
        f"{count(len({network.recipe for network in run.trained}), word)}, "
        f"{count(len(run.trained), 'trained network')}: {_performance(aurocs)}"
        f"{explained(summary)}; "
        f"masks of the top {run.fraction:.0%} of the pixels at a scale of {run.sigma:g} pixels."
    ]
    if word == "recipe":
        text.append("A recipe is an architecture and how it is trained.")
    text += [meant[name] for name in covers if name in meant]
    if any(isfinite(decomposition.R.value) for decomposition in run.decompositions.values()):
        text.append(
            f"R is how alike two {word}s are, corrected for differences between trainings: 1 is as alike as two "
            "trainings of one, 0 is nothing shared about the patch."
        )
    if any(isfinite(decomposition.shares["common"].value) for decomposition in run.decompositions.values()):
        text.append(f"The common share, what two {word}s share, is a mean over pairs.")
    return [" ".join(text)]


def _performance(aurocs: list[float]) -> str:
    low, high = min(aurocs), max(aurocs)
    if len(aurocs) == 1:
        return f"test AUROC {low:.3f}. "
    verdict = (
        "they perform alike" if high - low <= ALIKE else f"they differ by more than {ALIKE} and do not perform alike"
    )
    return f"test AUROC {low:.3f} to {high:.3f} ({verdict}). "


def _interval(estimate: Estimate, form: str) -> str:
    return f" ({estimate.low:{form}} to {estimate.high:{form}})" if isfinite(estimate.low) else ""


def _wrap(line: str) -> list[str]:
    item = 2 if line.startswith("- ") else 0
    return textwrap.wrap(line, 100, subsequent_indent=" " * item) or [""]
