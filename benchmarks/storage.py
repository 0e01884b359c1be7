"""What heatmaps in 8 bits a pixel lose: of masks, of the order of pixels, of R and the common share.

python benchmarks/storage.py [--run .] [--methods saliency …] [--patches 200]

Of the heatmaps in data/ of a run, quantised here and restored: the IoU of masks with those of float16, mean (and
lowest) of up to four patches of every network, at scales 0 and 2; beside it that of 256 levels at even steps of the
square root of the value, the simplest code. Then R and the common share of the networks, from both forms, by
`agreement.shares.decompose_heatmaps` on at most so many patches.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from pcam_agreement.agreement.overlaps import blur
from pcam_agreement.agreement.shares import decompose_heatmaps
from pcam_agreement.core.settings import read_params
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.heatmaps.levels import quantise, restore
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.networks.recipes import networks

FRACTIONS, SIGMAS, FEW = (0.05, 0.10, 0.25, 0.50), (0, 2), 4


def ranked(maps: np.ndarray) -> np.ndarray:
    """As they are stored."""
    return restore(*quantise(maps))


def square_root(maps: np.ndarray) -> np.ndarray:
    top = maps.max((1, 2), keepdims=True).astype(np.float32)
    return (np.round(np.sqrt(maps / top) * 255) / 255) ** 2 * top


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path(), help="a folder with params.yaml and data/")
    parser.add_argument("--methods", nargs="+", help="some of the run's")
    parser.add_argument("--patches", type=int, default=200, help="at most, for R and the common share")
    args = parser.parse_args()
    raw = read_params(args.run / "params.yaml")
    split = read_split(args.run / "data/patches", "test")
    print("| method | code |", *(f"{fraction}, sigma {sigma} |" for sigma in SIGMAS for fraction in FRACTIONS), "rho |")
    for method in args.methods or raw["methods"]:
        folder = args.run / "data/heatmaps" / method
        there = [network for network in networks(raw) if network.path(folder, ".h5").exists()]
        sets = [open_heatmaps(network.path(folder, ".h5")) for network in there]
        rows = np.linspace(0, len(sets[0].index) - 1, FEW).astype(int)
        few = np.concatenate([each.read(rows)[~each.constant[rows]] for each in sets])
        for code in (ranked, square_root):
            coded, cells = code(few).astype(np.float32), []
            for sigma in SIGMAS:
                pair = [blur(values.astype(np.float32), sigma).reshape(len(few), -1) for values in (few, coded)]
                for fraction in FRACTIONS:
                    iou = overlap(*(top_mask(values, fraction) for values in pair))
                    cells.append(f"{iou.mean():.3f} ({iou.min():.2f})")
            rho = [spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(few, coded, strict=True)]
            print(f"| {method} | {code.__name__} |", *(f"{cell} |" for cell in cells), f"{np.mean(rho):.5f} |")
        index = sets[0].index[: args.patches]
        results = []
        for code in (np.asarray, ranked):
            maps, again = (
                np.stack([code(part) for part in parts])
                for parts in (
                    [each.read(slice(args.patches)) for each in sets],
                    [each.repeated[: args.patches] for each in sets],
                )
            )
            results.append(
                decompose_heatmaps(
                    maps,
                    [network.recipe for network in there],
                    split.labels[index],
                    split.meta["wsi"].to_numpy()[index],
                    trained=[network.trained for network in there],
                    repeated=again if again.shape[1] else None,
                )
            )
        for name, pick in {"R": lambda found: found.R, "common": lambda found: found.shares["common"]}.items():
            before, after = (pick(result) for result in results)
            print(
                f"    {name}: {before.value:.4f} ({before.low:.3f} to {before.high:.3f}), in 8 bits {after.value:.4f} "
                f"({after.low:.3f} to {after.high:.3f})"
            )


if __name__ == "__main__":
    main()
