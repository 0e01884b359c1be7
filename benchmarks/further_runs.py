"""Does the next run contradict this one? Further runs with other seeds of everything, against their own intervals.

python benchmarks/further_runs.py --runs 5 --folder ../further    # 10 to 60 minutes; goes on where it was stopped

Each run trains the recipes of params.yaml from other seeds, on other patches of other slides, in a clone of this
repository. For R and the common share of each method: the mean and the standard deviation over this run and the
further ones, and the variance over the median of the variances that the runs state. Of six runs and a right variance it
lies between .17 and 2.6 in 95 % of the cases (chi-squared with five degrees of freedom over five).
"""

import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from scipy.stats import chi2

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.core.files import read_arrays
from pcam_agreement.core.settings import read_params
from pcam_agreement.networks.recipes import networks
from pcam_agreement.report.shares import decompose_views

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True, help="where the clone is made, outside of this checkout")
    args = parser.parse_args()
    runs = [headlines(ROOT)]
    if not args.folder.exists():
        subprocess.run(["git", "clone", "-q", str(ROOT), str(args.folder)], check=True)
    for number in range(1, args.runs + 1):
        with_other_seeds(args.folder / "params.yaml", number)
        subprocess.run(
            [sys.executable, "-m", "pcam_agreement.pipeline.parallel"],
            cwd=args.folder,
            env={**os.environ, "PYTHONPATH": "src"},
            check=True,
        )
        runs.append(headlines(args.folder))
    print_table(runs)


def with_other_seeds(path: Path, number: int) -> None:
    """Write the seeds of a further run into params.yaml: those of the first one, moved on."""
    yaml = YAML()
    params, first = yaml.load(path), yaml.load(ROOT / "params.yaml")
    seeds = [training for training in first["trainings"] if isinstance(training, int)]
    untrained = [training for training in first["trainings"] if training not in seeds]
    params["trainings"] = [seed + len(seeds) * number for seed in seeds]
    params["trainings"] += [f"untrained_{number * len(untrained) + place}" for place in range(1, len(untrained) + 1)]
    for name, seed in first["seeds"].items():
        if name != "statistics":
            params["seeds"][name] = seed + number
    yaml.dump(params, path)


def headlines(root: Path) -> dict[str, Decomposition]:
    """Each method's decomposition at the headline's scale, of the run in this folder."""
    raw = read_params(root / "params.yaml")
    of_run = networks(raw)
    return {
        method: next(iter(decompose_views(read_arrays(root / f"data/agreement/{method}.h5"), of_run).values()))
        for method in raw["methods"]
    }


def print_table(runs: list[dict[str, Decomposition]]) -> None:
    low, high = chi2.ppf([0.025, 0.975], len(runs) - 1) / (len(runs) - 1)
    print(
        f"{len(runs)} runs; variance over median V, of a right V between {low:.2f} and {high:.2f} in 95 % of the cases"
    )
    print("| method | | mean | standard deviation | estimates | variance / median V |")
    print("|---|---|---|---|---|---|")
    for method in runs[0]:
        for name in ("common", "R"):
            estimates = [run[method].R if name == "R" else run[method].shares[name] for run in runs]
            values = np.array([estimate.value for estimate in estimates])
            stated = np.median([estimate.standard_error**2 for estimate in estimates])
            listed = ", ".join(f"{value:.2f}" for value in values)
            spread = values.var(ddof=1)
            print(f"| {method} | {name} | {values.mean():.2f} | {spread**0.5:.2f} | {listed} | {spread / stated:.2f} |")


if __name__ == "__main__":
    main()
