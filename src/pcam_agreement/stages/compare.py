"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch."""

from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pcam_agreement import agreement, command, heatmap, params, store

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
    fraction, ties = settings.agreement.top_fraction, settings.agreement.ties
    of_pairs, of_each = [], []
    for start in tqdm(range(0, len(index), BLOCK), desc="compare", unit="block", disable=None):
        part = slice(start, start + BLOCK)
        heatmaps = np.stack([one.read(part) for one in sets]).astype(np.float32)
        of_pairs.append(agreement.measure(heatmaps, constant[:, part], fraction, ties))
        each = [_each(maps.reshape(len(maps), -1), fraction, ties) for maps in heatmaps]
        of_each.append({name: np.stack([one[name] for one in each]) for name in each[0]})
    results = {
        name: np.concatenate([block[name] for block in blocks], axis=1)
        for blocks in (of_pairs, of_each)
        for name in blocks[0]
    }
    flags = {
        name: np.stack([one.arrays.get(name, np.zeros(len(index))) for one in sets]).astype(bool)
        for name in ("unconverged", "nonfinite")
    }
    store.write_arrays(
        args.agreement,
        {
            **results,
            "index": index,
            "constant": constant,
            **flags,
            "networks": np.array(settings.networks, dtype="S"),
            "pairs": np.array(list(combinations(range(len(sets)), 2)), np.int64).reshape(-1, 2),
        },
        chance_iou=agreement.chance_iou(fraction),
    )


def _each(maps: np.ndarray, fraction: float, ties: str) -> dict[str, np.ndarray]:
    """Of each of n heatmaps [n, p]: how concentrated it is, the area of its mask and how much of it is tied."""
    mask = heatmap.top_mask(maps, fraction, ties)
    return {**heatmap.concentration(maps), "area": mask.mean(-1), "tied": heatmap.tied_fraction(mask)}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
