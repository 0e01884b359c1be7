"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch.

python -m pcam_agreement.pipeline.compare --patches data/patches --heatmaps data/heatmaps/lime --agreement …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement.agreement.compare import compare
from pcam_agreement.agreement.localisation import MEASURES, localisation
from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core import command
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.patch import CENTRE, PATCH
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.pcam import Split, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.heatmaps.masks import centre_gaussian, concentration, overlap, tied_fraction, top_mask


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    networks, settings = section(raw, "networks", list[str]), section(raw, "agreement", Agreement)
    # The networks of the parameters, never the files of the folder: files of dropped networks may still lie there.
    sets = {network: open_heatmaps(args.heatmaps / f"{network}.h5") for network in networks}
    index = next(iter(sets.values())).index
    split = read_split(args.patches, "test")
    slides = split.meta["wsi"].to_numpy()[index]
    gaussian = centre_gaussian(PATCH, settings.centre_sigma).ravel()

    def each(heatmaps: np.ndarray, masks: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        flat = heatmaps.reshape(masks.shape).astype(np.float32)
        # The last row is the Gaussian's: what centre bias alone gets.
        with_gaussian = np.concatenate([flat, np.broadcast_to(gaussian, (1, *flat.shape[1:]))])
        return {
            **concentration(flat),
            "area": masks.mean(-1),
            "tied": tied_fraction(masks),
            **_localisation(with_gaussian, _regions(split, index[rows])),
        }

    results = compare(sets, split.labels[index], slides, settings, each)
    flags = {
        name: np.stack([maps.arrays.get(name, np.zeros(len(index))) for maps in sets.values()]).astype(bool)
        for name in ("unconverged", "nonfinite")
    }
    repeat_iou = np.stack([_repeat_iou(maps, settings.top_fraction, settings.ties) for maps in sets.values()])
    write_arrays(
        args.agreement,
        {**results, **flags, "repeat_iou": repeat_iou, "networks": np.array(networks, dtype="S")},
        chance_iou=chance_iou(settings.top_fraction, settings.ties),
    )


def _repeat_iou(heatmaps: Heatmaps, fraction: float, ties: str) -> np.ndarray:
    """The IoU [n] of heatmaps with those of the same network and patch from other perturbation samples.

    NaN where there are none.
    """
    iou, repeated = np.full(len(heatmaps.index), np.nan), len(heatmaps.repeated)
    if repeated:
        maps = np.stack([heatmaps.read(slice(repeated)), heatmaps.repeated]).reshape(2, repeated, -1)
        maps = maps.astype(np.float32)
        varies = np.ptp(maps, axis=2).min(0) > 0
        iou[:repeated] = np.where(varies, overlap(*(top_mask(values, fraction, ties) for values in maps)), np.nan)
    return iou


def _regions(split: Split, index: np.ndarray) -> dict[str, np.ndarray]:
    """Where evidence may be on these patches, bool [n, h * w]: the centre, and the tumour where it is drawn.

    The label is about the centre alone.
    """
    centre = np.zeros((PATCH, PATCH), bool)
    centre[CENTRE, CENTRE] = True
    regions = {"centre": np.broadcast_to(centre.ravel(), (len(index), centre.size))}
    if split.masks is not None:
        regions["tumour"] = np.asarray(split.masks[index]).reshape(len(index), -1) > 0
    return regions


def _localisation(maps: np.ndarray, regions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Localisation of m x n maps [m, n, p] in each region of these patches, and the region's share of the patch."""
    results: dict[str, np.ndarray] = {}
    for name, region in regions.items():
        measures = [localisation(values, region) for values in maps]
        results |= {f"{name}_{measure}": np.stack([m[measure] for m in measures]) for measure in MEASURES}
        results[f"{name}_share"] = region.mean(1, keepdims=True).T
    return results


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
