"""What a run cannot say, in plain sentences: pure text from the estimates and the counts of the summary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pandas as pd

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.gaps import ENOUGH, said_of_test
from pcam_agreement.report.shares import overlap_with_untrained

ENOUGH_SLIDES = 10


@dataclass(frozen=True)
class Run:
    """What the sentences are about, by method: title, decomposition at the headline's scale, rows of the means table.

    recipes: the blocks of the parameters; networks: those of the run; sigma, fraction: of the headline's masks.
    """

    titles: Mapping[str, str]
    decompositions: Mapping[str, Decomposition]
    means: pd.DataFrame
    recipes: Mapping[str, Mapping[str, Any]]
    networks: Sequence[Network]
    sigma: float
    fraction: float
    synthetic: bool

    @property
    def trained(self) -> list[Network]:
        return [network for network in self.networks if network.trained]


def limits(run: Run, summary: dict, word: str) -> list[str]:
    sentences = ["Whether the place is right: networks may share a wrong one.", *_leaks(summary["data"])]
    slides, patches = summary["explained_slides"], summary["explained_patches"]
    if slides < 2:
        sentences.append("All patches are of one slide: there is no null and no interval.")
    elif slides < ENOUGH_SLIDES:
        sentences.append(f"Much about other slides: there are only {slides}.")
    if slides == patches > 1:
        sentences.append("Every patch counts as a slide; where several are of one, intervals are too narrow.")
    if len({network.recipe for network in run.trained}) == len(run.trained):
        sentences.append(
            f"What is of a training: these are single networks, others of the same {word}s may lie outside."
        )
    sentences += _by_reason(run, _left_out)
    sentences += _by_reason(run, _not_separated) + _beside(run)
    sentences += _shared_weights(run)
    architectures = len({network.architecture for network in run.trained})
    if architectures < ENOUGH:
        sentences.append(
            f"Whether networks that perform alike look alike: {architectures} architectures, of {ENOUGH} needed."
        )
    for method, gap in summary["auroc_gap"].items():
        if gap["rho"] is not None:
            sentences.append(
                f"Why two architectures look alike: with {run.titles[method]}, their gap in AUROC and how alike they "
                f"look have {said_of_test(gap)}."
            )
    sentences += _faithfulness(run, summary["faithfulness"])
    sentences += _defects(run, summary["agreement"], patches)
    return sentences


def _left_out(decomposition: Decomposition) -> dict[str, str]:
    left_out = decomposition.left_out if decomposition.recipes else {}  # else the shares have this reason
    return {f"{name} is not in the shares": reason for name, reason in left_out.items()}


def _not_separated(decomposition: Decomposition) -> dict[str, str]:
    learned = decomposition.shares["input"]
    if isfinite(decomposition.shares["common"].value) and not isfinite(learned.value) and learned.reason:
        return {"How much of the common share untrained networks see as well": learned.reason}
    return {}


def _beside(run: Run) -> list[str]:
    """The overlap with untrained networks, where it cannot be separated."""
    overlaps = {
        run.titles[method]: overlap
        for method, decomposition in run.decompositions.items()
        if _not_separated(decomposition) and isfinite(overlap := overlap_with_untrained(decomposition, run.networks))
    }
    named = ", ".join(f"{title} {overlap:.2f}" for title, overlap in overlaps.items())
    text = (
        f"Whether the overlap of untrained with trained networks ({named}; a network's with itself: 1) is in the "
        "common share."
    )
    return [text] if named else []


def _by_reason(run: Run, find: Callable[[Decomposition], dict[str, str]]) -> list[str]:
    """What `find` says of each method's decomposition, as text: reason; one sentence for methods that say the same."""
    methods: dict[tuple[str, str], list[str]] = {}
    for method, decomposition in run.decompositions.items():
        for item in find(decomposition).items():
            methods.setdefault(item, []).append(run.titles[method])
    sentences = []
    for (text, reason), titles in methods.items():
        which = "" if len(titles) == len(run.titles) else f" (with {', '.join(titles)})"
        sentences.append(f"{text}{which}: {reason}.")
    return sentences


def _shared_weights(run: Run) -> list[str]:
    """A warning where trainings of a recipe start from the same weights."""
    named = [name for name, block in run.recipes.items() if block["epochs"] and block["weights"] != "none"]
    if not named:
        return []
    return [f"What other starting weights would do: trainings of {', '.join(named)} share theirs."]


def _defects(run: Run, agreement: Mapping[str, dict], patches: int) -> list[str]:
    """How many heatmaps are constant, and how many did not converge."""
    constant, unconverged = [], []
    trained = patches * len(run.trained)
    untrained = patches * len(run.networks) - trained
    for method, numbers in agreement.items():
        title, of_untrained = run.titles[method], numbers["unconverged_untrained"]
        if numbers["constant"]:
            constant.append(f"{title} {numbers['constant']}")
        if numbers["unconverged"]:
            rest = f" and {of_untrained}" if untrained else ""
            unconverged.append(f"{title} {numbers['unconverged'] - of_untrained}{rest}")
    counted = [f"constant ({', '.join(constant)})"] if constant else []
    if unconverged:
        rest = f" and untrained ones' {untrained}" if untrained else ""
        counted.append(f"unconverged (of trained networks' {trained}{rest}: {', '.join(unconverged)})")
    return [f"Anything from heatmaps that are {' or '.join(counted)}: see plots/heatmaps.csv."] if counted else []


def _faithfulness(run: Run, counts: Mapping[str, dict[str, int]]) -> list[str]:
    sentences = []
    bad = {method: numbers["uninformative"] + numbers["undefined"] for method, numbers in counts.items()}
    if any(bad.values()):
        named = [
            f"{run.titles[method]}: {count} of {counts[method]['networks']}" for method, count in bad.items() if count
        ]
        sentences.append(
            "That a heatmap shows what its network uses where it is not shown to be more faithful than the same map at "
            f"random places (trained networks that were tested, {', '.join(named)})."
        )
    passing = sum(numbers["untrained_informative"] for numbers in counts.values())
    if passing:
        tested = sum(numbers["untrained"] for numbers in counts.values())
        sentences.append(
            "What was learnt, from faithfulness (the score changes as the highest pixels go): "
            f"{passing} of {tested} tests of untrained networks pass too."
        )
    return sentences


def _leaks(data: dict) -> list[str]:
    """A warning where splits share patches or slides."""
    counts = {name: data[f"{name}_in_two_splits"] for name in ("patches", "slides")}
    shared = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [f"**The splits leak**: {shared} are in two of them, so scores on test are too good."] if shared else []
