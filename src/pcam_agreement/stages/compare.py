"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement import agreement, command, comparing, heatmap, localisation, params, pcam, store


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    # The networks of the parameters, never the files of the folder: files of dropped networks may still lie there.
    sets = {network: store.open_heatmaps(args.heatmaps / f"{network}.h5") for network in settings.networks}
    index = next(iter(sets.values())).index
    split = pcam.read(args.patches, "test")
    slides = split.meta["wsi"].to_numpy()[index]
    bell = localisation.bell(pcam.PATCH, settings.method.centre.sigma)

    def each(heatmaps: np.ndarray, masks: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        flat = heatmaps.reshape(masks.shape).astype(np.float32)
        # The last row is the bell's: what is won by looking at the middle.
        beside = np.concatenate([flat, np.broadcast_to(bell, (1, *flat.shape[1:]))])
        return {**_each(flat, masks), **_where(beside, _regions(split, index[rows]))}

    results = comparing.compare(sets, split.labels[index], slides, settings.agreement, each)
    flags = {
        name: np.stack([one.arrays.get(name, np.zeros(len(index))) for one in sets.values()]).astype(bool)
        for name in ("unconverged", "nonfinite")
    }
    own = np.stack([_self_iou(one, settings.agreement.top_fraction, settings.agreement.ties) for one in sets.values()])
    store.write_arrays(
        args.agreement,
        {**results, **flags, "self_iou": own, "networks": np.array(settings.networks, dtype="S")},
        chance_iou=agreement.chance_iou(settings.agreement.top_fraction, settings.agreement.ties),
    )


def _self_iou(one: store.Heatmaps, fraction: float, ties: str) -> np.ndarray:
    """The IoU [n] of heatmaps with those of the same network and patch from other draws; NaN where there are none."""
    found, repeated = np.full(len(one.index), np.nan), len(one.repeated)
    if repeated:
        maps = np.stack([one.read(slice(repeated)), one.repeated]).reshape(2, repeated, -1).astype(np.float32)
        says = np.ptp(maps, axis=2).min(0) > 0
        iou = agreement.overlap(*(heatmap.top_mask(draw, fraction, ties) for draw in maps))
        found[:repeated] = np.where(says, iou, np.nan)
    return found


def _each(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Of each of m x n heatmaps [m, n, p]: how concentrated it is, the area of its mask and how much of it is tied."""
    return {**heatmap.concentration(maps), "area": masks.mean(-1), "tied": heatmap.tied_fraction(masks)}


def _regions(split: pcam.Split, index: np.ndarray) -> dict[str, np.ndarray]:
    """Where evidence may be on patches of these numbers, bool [n, h * w]: the centre, and the tumour where drawn.

    The label speaks of the centre alone.
    """
    centre = np.zeros((pcam.PATCH, pcam.PATCH), bool)
    centre[pcam.CENTRE, pcam.CENTRE] = True
    regions = {"centre": np.broadcast_to(centre.ravel(), (len(index), centre.size))}
    if split.masks is not None:
        regions["tumour"] = np.asarray(split.masks[index]).reshape(len(index), -1) > 0
    return regions


def _where(maps: np.ndarray, regions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How much of each of m x n maps [m, n, p] lies in each region of these patches, and the region's own share."""
    found: dict[str, np.ndarray] = {}
    for name, region in regions.items():
        each = [localisation.localisation(one, region) for one in maps]
        found |= {f"{name}_{measure}": np.stack([one[measure] for one in each]) for measure in localisation.MEASURES}
        found[f"{name}_share"] = region.mean(1, keepdims=True).T
    return found


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
