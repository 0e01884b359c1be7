"""Does a run with other patches, or other trainings, repeat an answer? Differences over what they should be.

python benchmarks/repeated_run.py FIRST SECOND --other trainings    # two folders in which the pipeline was run

For R and the common share of each method: both runs' estimates, and their difference over the root of the sum of their
variances over what differs between them, the patches (of slides) or the trainings. Where these are right it is beyond 2
in about 5 % of the cases; with three trainings a recipe, of which a variance is known badly, more often.
"""

from argparse import ArgumentParser
from pathlib import Path

from further_runs import headlines


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--other", choices=["slides", "trainings"], required=True, help="what differs between the two")
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


if __name__ == "__main__":
    main()
