"""What the agreement of all pairs of heatmap sets costs beyond reading them from disk once, and what its intervals do.

python benchmarks/agreement.py [--sets 24] [--patches 4096] [--json]

Writes made-up smooth heatmaps in the files that explain writes, reads them once, set after set, and measures all pairs
as the compare stage does; every measurement reads from disk, with its files dropped from the page cache. Written to
and deleted from the folder for temporary files (1.8 GB).
"""

import json
import os
import re
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np

from pcam_agreement.agreement.compare import compare
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.report import bootstrap

SLIDES = 200
LENGTH = 256  # patches written, and read, in one go
FEW = 4  # patches measured at once: more of them do not stay in the processor's cache


def write(folder: Path, sets: int, patches: int) -> None:
    """Smooth heatmaps that share something with those of the same patch in other sets."""
    side = PATCH
    away = np.abs(np.arange(side)[:, None] - np.linspace(0, side - 1, 16))
    spread = np.exp(-((away / 6) ** 2)).astype(np.float32)  # [96, 16]
    for number in range(sets):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            maps = file.create_dataset("heatmaps", (patches, side, side), np.float16)
            for start in range(0, patches, LENGTH):
                stop = min(start + LENGTH, patches)
                shape = (stop - start, 16, 16)
                common, own = (
                    np.random.default_rng(seed).standard_normal(shape, np.float32)
                    for seed in ((start, 0), (start, number + 1))
                )
                part = np.abs(spread @ (common + own) @ spread.T)
                maps[start:stop] = part / part.mean((1, 2), keepdims=True)
            file["index"], file["constant"] = np.arange(patches), np.zeros(patches, bool)
            file["repeated"] = maps[:0]
            file.attrs["method"] = file.attrs["settings"] = "{}"


def opened(folder: Path, patches: int) -> dict[str, Heatmaps]:
    """The first so many patches of all sets, dropped from the page cache."""
    sets = {}
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        whole = open_heatmaps(path)
        sets[path.stem] = replace(whole, index=whole.index[:patches], constant=whole.constant[:patches])
    return sets


def read(sets: dict[str, Heatmaps]) -> None:
    for one in sets.values():
        for start in range(0, len(one.index), LENGTH):
            one.read(slice(start, start + LENGTH))


def everything(sets: dict[str, Heatmaps], settings: Agreement) -> dict[str, np.ndarray]:
    """All that the compare stages measure of pairs."""
    count = len(next(iter(sets.values())).index)
    random = np.random.default_rng(0)
    return compare(sets, random.integers(0, 2, count), random.integers(0, SLIDES, count), settings)


def peak(folder: Path, patches: int) -> float:
    """MiB that a process needs for everything (its own: what getrusage says has the peak of the parent in it)."""
    everything(opened(folder, patches), section(read_params(), "agreement", Agreement))
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def intervals_of(found: dict[str, np.ndarray], sets: int, draws: int) -> None:
    """All that the report estimates, if every second set is the twin of the one before."""
    rows = {pair: row for row, pair in enumerate(combinations(range(sets), 2))}
    ceilings = [[[rows[one - one % 2, one - one % 2 + 1]] for one in pair] for pair in rows]
    estimates = bootstrap.estimate(found, ceilings, draws, 0)
    for name in ("iou", "null", "excess", "normalised"):
        estimates.interval(name)
        estimates.interval_of_mean(name, np.ones(len(rows), bool))
        if name != "null":
            estimates.band(name)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=24, help="an even number")
    parser.add_argument("--patches", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    settings = section(read_params(), "agreement", Agreement)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, args.sets, args.patches)
        reads = []
        for _ in range(args.repeats):
            sets = opened(folder, args.patches)
            reads.append(seconds(lambda: read(sets)))  # noqa: B023
        sets, found = opened(folder, args.patches), {}
        whole = seconds(lambda: found.update(everything(sets, settings)))
        numbers = {
            "bootstrap_seconds": round(seconds(lambda: intervals_of(found, args.sets, 2000)), 2),
            "everything_over_read": round(whole / float(np.median(reads)), 2),
            "read_seconds": round(float(np.median(reads)), 2),
        }
        for patches in (args.patches // 8, args.patches):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                numbers[f"peak_mib_{patches}"] = round(pool.submit(peak, folder, patches).result())
    if args.json:
        print(json.dumps(numbers))
    else:
        for label, number in numbers.items():
            print(f"{label:22} {number:9}")
        count = args.sets * (args.sets - 1) // 2
        print(f"{args.sets} sets of {args.patches} patches, {count} pairs, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
