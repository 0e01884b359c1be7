"""Compare all networks under one method: heatmaps -> agreement of every pair on every patch.

python -m pcam_agreement.pipeline.compare --patches data/patches --heatmaps data/heatmaps/lime --agreement …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement.agreement.compare import compare
from pcam_agreement.agreement.consensus import consensus_maps
from pcam_agreement.agreement.localisation import MEASURES, localisation
from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.agreement.overlaps import pack
from pcam_agreement.agreement.sets import overlaps_of_repeats, overlaps_of_sets, views
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.agreement.ssim import ssim_of_sets
from pcam_agreement.core import command
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.patch import CENTRE, PATCH
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.pcam import Split, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.heatmaps.masks import centre_gaussian, concentration, overlap, tied_fraction, top_mask
from pcam_agreement.networks.recipes import networks


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    settings = section(raw, "agreement", Agreement)
    # The networks of the parameters, never the files of the folder: files of dropped networks may still lie there.
    chosen = networks(raw)
    sets = {network.name: open_heatmaps(network.path(args.heatmaps, ".h5")) for network in chosen}
    recipes, trained = [network.recipe for network in chosen], [network.trained for network in chosen]
    index = next(iter(sets.values())).index
    split = read_split(args.patches, "test")
    labels, slides = split.labels[index], split.meta["wsi"].to_numpy()[index]
    gaussian = centre_gaussian(PATCH, settings.centre_sigma).ravel()

    def more(heatmaps: np.ndarray, masks: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        flat = heatmaps.reshape(masks.shape).astype(np.float32)
        consensus = consensus_maps(heatmaps, recipes, trained)
        return {
            **concentration(flat),
            "area": masks.mean(-1),
            "tied": tied_fraction(masks),
            **_localisation(flat, consensus, gaussian, _regions(split, index[rows])),
        }

    results = compare(sets, labels, slides, settings, more)
    maps, compared = list(sets.values()), views(settings)
    results |= pack(overlaps_of_sets(maps, labels, slides, compared), "overlap")
    if repeats := overlaps_of_repeats(maps, labels, slides, compared):
        results |= pack(repeats, "repeat")
    results |= _ssim(maps, labels, slides, settings.ssim_patches)
    flags = {
        name: np.stack([each.arrays.get(name, np.zeros(len(index))) for each in maps]).astype(bool)
        for name in ("unconverged", "nonfinite")
    }
    repeat_iou = np.stack([_repeat_iou(each, settings.top_fraction, settings.ties) for each in maps])
    write_arrays(
        args.agreement,
        {**results, **flags, "repeat_iou": repeat_iou, "networks": np.array(list(sets), dtype="S")},
        chance_iou=chance_iou(settings.top_fraction, settings.ties),
    )


def _ssim(sets: list[Heatmaps], labels: np.ndarray, slides: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """The mean SSIM of every pair and its null [k, c], on at most so many patches, evenly spaced."""
    rows = np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int)

    def read(row: int) -> np.ndarray:
        return np.concatenate([each.read(slice(row, row + 1)) for each in sets])

    ssim, null = ssim_of_sets(read, rows, labels[rows], slides[rows])
    return {"ssim": ssim, "ssim_null": null, "ssim_rows": rows}


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


def _localisation(
    maps: np.ndarray, consensus: np.ndarray, gaussian: np.ndarray, regions: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Localisation in each region of these n patches, and the region's share of the patch.

    maps: of m networks, [m, n, p]; behind their rows, of the consensus maps [recipes, n, p] the mean, and of the
    Gaussian [p], what centre bias alone gets.
    """
    results: dict[str, np.ndarray] = {}
    for name, region in regions.items():
        centre = localisation(np.broadcast_to(gaussian, maps.shape[1:]), region)
        networks, others = ([localisation(values, region) for values in each] for each in (maps, consensus))
        for measure in MEASURES:
            mean = np.mean([values[measure] for values in others], axis=0)
            rows = [*(values[measure] for values in networks), mean, centre[measure]]
            results[f"{name}_{measure}"] = np.stack(rows)
        results[f"{name}_share"] = region.mean(1, keepdims=True).T
    return results


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder with one HDF5 file a network")
    parser.add_argument("--agreement", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
