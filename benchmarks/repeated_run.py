"""Does a run with other patches, or other trainings, repeat an answer? Differences over what they should be.

python benchmarks/repeated_run.py FIRST SECOND --other trainings    # two folders in which the pipeline was run
python benchmarks/repeated_run.py FIRST SECOND --other trainings --figure pairs.png    # and A of every pair, in both

For R and the common share of each method: both runs' estimates, and their difference over the root of the sum of their
variances over what differs between them, the patches (of slides) or the trainings. Where these are right it is beyond 2
in about 5 % of the cases; with three trainings a recipe, of which a variance is known badly, more often.
"""

from argparse import ArgumentParser
from pathlib import Path

from further_runs import headlines
from matplotlib.figure import Figure

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.core import plugins
from pcam_agreement.report.figures import panels

COLOURS = ("#00467f", "#c98a00", "#a05050", "#707070")


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--other", choices=["slides", "trainings"], required=True, help="what differs between the two")
    parser.add_argument("--figure", type=Path, help="a PNG of A of every pair of recipes in both runs")
    args = parser.parse_args()
    runs = [headlines(args.first), headlines(args.second)]
    print("| method | | first | second | difference over its standard error |")
    print("|---|---|---|---|---|")
    for method in (method for method in runs[0] if method in runs[1]):
        for name in ("common", "R"):
            first, second = (run[method].R if name == "R" else run[method].shares[name] for run in runs)
            error = (first.variances[args.other] + second.variances[args.other]) ** 0.5
            ratio = (second.value - first.value) / error
            print(f"| {method} | {name} | {first.value:.3f} | {second.value:.3f} | {ratio:.1f} |")
    if args.figure:
        panels.save(pairs(*runs, args.other), args.figure, dpi=110)


def pairs(first: dict[str, Decomposition], second: dict[str, Decomposition], other: str) -> Figure:
    """A of every pair of recipes in two runs, against each other, with their 95 % intervals."""
    figure = Figure((5.2, 5.2), layout="constrained")
    axis = figure.subplots()
    ends = []
    for colour, method in zip(COLOURS, (method for method in first if method in second), strict=False):
        for number, (pair, a) in enumerate(first[method].agreement.items()):
            b = second[method].agreement[pair]
            ends += [a.low, a.high, b.low, b.high]
            label = plugins.load(plugins.METHODS, "method", method).TITLE if number == 0 else None
            axis.plot([a.low, a.high], [b.value] * 2, color=colour, lw=0.8, alpha=0.6)
            axis.plot([a.value] * 2, [b.low, b.high], color=colour, lw=0.8, alpha=0.6)
            axis.plot(a.value, b.value, "o", color=colour, ms=5, label=label)
    limits = min(0.0, *ends) - 0.02, max(1.0, *ends) + 0.02
    axis.plot(limits, limits, color="black", lw=0.8, ls=":", zorder=0)
    axis.set_xlim(limits)
    axis.set_ylim(limits)
    axis.set_aspect("equal")
    axis.set_xlabel("A of two recipes, first run")
    axis.set_ylabel(f"A of the same recipes, with other {other}")
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
