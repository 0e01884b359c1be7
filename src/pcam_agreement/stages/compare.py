"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch."""

from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pcam_agreement import agreement, command, heatmap, localisation, params, pcam, store

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
    regions = _regions(split, index)
    bell = localisation.bell(pcam.PATCH, settings.method.centre.sigma)
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
            # The last row is the bell's: what is won by looking at the middle.
            **_where(np.concatenate([flat, np.broadcast_to(bell, (1, *flat.shape[1:]))]), regions, part),
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


def _regions(split: pcam.Split, index: np.ndarray) -> dict[str, np.ndarray]:
    """Where evidence may be, bool [n, h * w]: the centre, which alone the label speaks of; the tumour where drawn."""
    centre = np.zeros((pcam.PATCH, pcam.PATCH), bool)
    centre[pcam.CENTRE, pcam.CENTRE] = True
    regions = {"centre": np.broadcast_to(centre.ravel(), (len(index), centre.size))}
    if split.masks is not None:
        regions["tumour"] = np.asarray(split.masks[index]).reshape(len(index), -1) > 0
    return regions


def _where(maps: np.ndarray, regions: dict[str, np.ndarray], part: slice) -> dict[str, np.ndarray]:
    """How much of each of m x n maps [m, n, p] lies in each region of these patches, and the region's own share."""
    found: dict[str, np.ndarray] = {}
    for name, region in regions.items():
        each = [localisation.localisation(one, region[part]) for one in maps]
        found |= {f"{name}_{measure}": np.stack([one[measure] for one in each]) for measure in localisation.MEASURES}
        found[f"{name}_share"] = region[part].mean(1, keepdims=True).T
    return found


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
