"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch."""

from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pcam_agreement import agreement, command, heatmap, params, pcam, store

BLOCK = 64  # patches in memory at once


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    # The networks of the parameters, never the files of the folder: files of dropped networks may still lie there.
    sets = [store.open_heatmaps(args.heatmaps / f"{network}.h5") for network in settings.networks]
    index = sets[0].index
    for network, one in zip(settings.networks, sets, strict=True):
        if not np.array_equal(one.index, index):
            raise ValueError(f"{one.path}: {network} was explained on other patches; run explain for all networks.")
    constant = np.stack([one.constant for one in sets])
    split = pcam.read(args.patches, "test")
    labels, slides = split.labels[index], split.meta["wsi"].to_numpy()[index]
    fraction, ties = settings.agreement.top_fraction, settings.agreement.ties
    results: dict[str, np.ndarray] = {}
    blocks = -(-len(index) // BLOCK)
    for first in tqdm(range(blocks), desc="compare", unit="block", disable=None):
        # Every so many patches: neighbours are often of one slide, and the null needs others.
        part = slice(first, None, blocks)
        heatmaps = np.stack([one.read(part) for one in sets]).astype(np.float32)
        flat = heatmaps.reshape(*heatmaps.shape[:2], -1)
        masks = np.stack([heatmap.top_mask(maps, fraction, ties) for maps in flat])
        found = {
            **agreement.measure(heatmaps, masks, constant[:, part], fraction),
            "null_iou": agreement.null_iou(masks, constant[:, part], labels[part], slides[part]),
            **_each(flat, masks),
        }
        for name, values in found.items():
            results.setdefault(name, np.full((len(values), len(index)), np.nan))[:, part] = values
    flags = {
        name: np.stack([one.arrays.get(name, np.zeros(len(index))) for one in sets]).astype(bool)
        for name in ("unconverged", "nonfinite")
    }
    store.write_arrays(
        args.agreement,
        {
            **results,
            "index": index,
            "labels": labels,
            "slides": np.unique(slides, return_inverse=True)[1],
            "constant": constant,
            **flags,
            "networks": np.array(settings.networks, dtype="S"),
            "pairs": np.array(list(combinations(range(len(sets)), 2)), np.int64).reshape(-1, 2),
        },
        chance_iou=agreement.chance_iou(fraction),
    )


def _each(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Of each of m x n heatmaps [m, n, p]: how concentrated it is, the area of its mask and how much of it is tied."""
    return {**heatmap.concentration(maps), "area": masks.mean(-1), "tied": heatmap.tied_fraction(masks)}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
