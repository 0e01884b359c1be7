"""What the agreement of all pairs of networks costs, and what its intervals do.

python benchmarks/agreement.py [--networks 32] [--patches 4096] [--json]

Writes made-up smooth heatmaps in the files that explain writes, of recipes of three trainings and an untrained network,
and measures all pairs as the compare stage does: IoU and its kin, and overlaps at five scales (SSIM aside). Then the
intervals of shares, R and trainings needed at these scales, of patches of 100 slides and of as many slides as patches.
Written to and deleted from the folder for temporary files (2.4 GB for 32 networks).
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
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np

from pcam_agreement.agreement.compare import compare
from pcam_agreement.agreement.components import Networks
from pcam_agreement.agreement.decomposition import decompose
from pcam_agreement.agreement.overlaps import Overlaps, View
from pcam_agreement.agreement.sets import overlaps_of_sets, views
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps

SLIDES = 100
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


def everything(sets: dict[str, Heatmaps], settings: Agreement, slides: np.ndarray) -> dict[View, Overlaps]:
    """What the compare stage measures of pairs, SSIM aside; the overlaps."""
    labels = np.random.default_rng(0).integers(0, 2, len(slides))
    compare(sets, labels, slides, settings)
    return overlaps_of_sets(list(sets.values()), labels, slides, scales(settings))


def scales(settings: Agreement) -> list[View]:
    return [view for view in views(settings) if view.fraction == settings.top_fraction]


def peak(folder: Path, patches: int) -> float:
    """MiB that a process needs for everything (its own: what getrusage says has the peak of the parent in it)."""
    slides = np.arange(patches) % SLIDES
    everything(opened(folder, patches), section(read_params(), "agreement", Agreement), slides)
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def intervals(overlaps: dict[View, Overlaps], networks: int) -> None:
    """All that the report estimates of one method: recipes of three trainings and an untrained network."""
    recipes = [str(number // 4) for number in range(networks)]
    of_networks = Networks(recipes, recipes, [number % 4 < 3 for number in range(networks)])
    for of_view in overlaps.values():
        decompose(of_view, of_networks)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=32, help="four of each recipe")
    parser.add_argument("--patches", type=int, default=4096)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    settings = section(read_params(), "agreement", Agreement)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, args.networks, args.patches)
        sets = opened(folder, args.patches)
        reading = seconds(lambda: read(sets))
        found: dict[View, Overlaps] = {}
        whole = seconds(lambda: found.update(everything(sets, settings, np.arange(args.patches) % SLIDES)))
        labels, every = np.random.default_rng(0).integers(0, 2, args.patches), np.arange(args.patches)
        of_patches = overlaps_of_sets(list(sets.values()), labels, every, scales(settings))
        numbers = {
            "read_seconds": round(reading, 1),
            "pairs_seconds": round(whole, 1),
            "intervals_seconds": round(seconds(lambda: intervals(found, args.networks)), 1),
            "intervals_of_patches_seconds": round(seconds(lambda: intervals(of_patches, args.networks)), 1),
        }
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            numbers["peak_mib"] = round(pool.submit(peak, folder, args.patches).result())
    if args.json:
        print(json.dumps(numbers))
    else:
        for label, number in numbers.items():
            print(f"{label:28} {number:9}")
        pairs = args.networks * (args.networks - 1) // 2
        print(f"{args.networks} networks, {args.patches} patches, {pairs} pairs, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
