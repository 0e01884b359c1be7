"""Shares of anybody's heatmaps: a file of arrays -> a table in the terminal and a figure. Not a stage.

python -m pcam_agreement.pipeline.shares heatmaps.npz --figure shares.png

The file, .npz or .h5, holds the arguments of `agreement.shares.decompose_heatmaps` as arrays of their names: heatmaps,
recipes, labels, slides and, where there are any, architectures, trained and repeated.
"""

import inspect
import textwrap
from argparse import ArgumentParser, Namespace
from math import ceil, inf, isnan
from pathlib import Path
from typing import Any

import numpy as np

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.agreement.intervals import Estimate
from pcam_agreement.agreement.shares import decompose_heatmaps
from pcam_agreement.core import command
from pcam_agreement.core.files import existing, read_arrays

ARRAYS = [name for name in inspect.signature(decompose_heatmaps).parameters if name not in ("sigma", "fraction")]
NEEDED = ARRAYS[:4]
WORDS = {
    "common": "shared by two recipes (mean)",
    "input": "  seen by untrained ones too",
    "learned": "  learned",
    "recipe": "of the recipe",
    "training": "of the single training",
    "noise": "method noise",
}


def main(args: Namespace) -> None:
    arrays = read(args.file)
    result: Decomposition = decompose_heatmaps(**arrays, sigma=args.sigma, fraction=args.fraction)
    rows = {WORDS[name]: share for name, share in result.shares.items()}
    rows |= {f"A of {a} and {b}": estimate for (a, b), estimate in result.agreement.items()}
    rows |= {"R, A of all pairs": result.R, "reliability of a training": result.reliability}
    print(f"{'share of what depends on the patch':40}{'value':>10}   95 % interval")
    for name, estimate in rows.items():
        print(f"{name:40}{_number(estimate.value):>10}   {_interval(estimate)}")
    print(f"{'trainings to average':40}{_trainings(result.trainings_needed)}")
    rows["trainings to average"] = result.trainings_needed
    reasons: dict[str, list[str]] = {}
    for name, estimate in rows.items():
        reasons.setdefault(estimate.reason, []).append(name.strip())
    notes = [f"{', '.join(names)}: {reason}." for reason, names in reasons.items() if reason]
    notes += [f"{recipe} is left out: {reason}." for recipe, reason in result.left_out.items()]
    notes.append(
        f"{result.patches} patches. The intervals cover other {result.covers or 'nothing, of too few slides'}."
    )
    print("", *(textwrap.fill(note, 80) for note in notes), sep="\n")
    if args.figure:
        _draw(args.file.stem, result, args)


def read(path: Path) -> dict[str, Any]:
    """The arrays of a file; raises ValueError where it is missing, another kind of file, or lacks one."""
    if path.suffix == ".npz":
        with np.load(existing(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    elif path.suffix in (".h5", ".hdf5"):
        arrays = read_arrays(path)
    else:
        raise ValueError(f"{path}: expected a file .npz or .h5.")
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it needs arrays named {', '.join(NEEDED)}.")
    if unknown := [name for name in arrays if name not in ARRAYS]:
        raise ValueError(f"{path} holds {', '.join(unknown)}; expected arrays named {', '.join(ARRAYS)}.")
    return {name: _text(array) if array.dtype.kind in "SO" else array for name, array in arrays.items()}


def _text(array: np.ndarray) -> np.ndarray:
    """Names as HDF5 keeps them, as text."""
    return np.array([name.decode() if isinstance(name, bytes) else str(name) for name in array])


def _draw(name: str, result: Decomposition, args: Namespace) -> None:
    from pcam_agreement.report import shares  # with pandas, which the table needs not
    from pcam_agreement.report.figures import panels
    from pcam_agreement.report.figures.shares import bars

    table = shares.shares_table(name, {shares.Of(args.sigma, args.fraction): result})
    panels.save(bars(table, {name: name}, "recipe"), args.figure, dpi=110)


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "-" if estimate.reason else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _trainings(needed: Estimate) -> str:
    """A number of trainings and its interval, rounded up; at least a number where it has no upper end."""
    if needed.reason:
        return f"{'-':>10}   -"
    value, low = max(ceil(needed.value), 1), max(ceil(needed.low), 1)
    return f"{value:10}   " + (f"{low} or more" if needed.high == inf else f"{low} to {max(ceil(needed.high), 1)}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="arrays: heatmaps, recipes, labels, slides … (.npz or .h5)")
    parser.add_argument("--sigma", type=float, default=2.0, help="pixels, of the Gaussian that heatmaps are blurred by")
    parser.add_argument("--fraction", type=float, default=0.25, help="of the pixels, in a mask")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    command.run(main, parser)
