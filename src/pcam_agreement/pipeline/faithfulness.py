"""Faithfulness of one network's heatmaps: deletion and insertion of their highest pixels.

python -m pcam_agreement.pipeline.faithfulness --patches … --checkpoint … --heatmaps … --faithfulness …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.seeds import patch_seed
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.attribution.faithfulness.curves import areas, curves
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.core import command
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.settings import Device, Seed, read_params, section
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.logits import to_device


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    seed, explanation = section(raw, "seed", Seed), section(raw, "explain", Explanation)
    settings = section(raw, "faithfulness", Faithfulness)
    device = choose_device(section(raw, "device", Device))
    torch.use_deterministic_algorithms(True, warn_only=True)
    split = read_split(args.patches, "test")
    heatmaps = open_heatmaps(args.heatmaps)
    # Evenly spaced, the same for all networks and methods: neighbours are often of one slide.
    count = min(settings.patches, len(heatmaps.index))
    rows = np.linspace(0, len(heatmaps.index) - 1, count).round().astype(int)
    index = heatmaps.index[rows]
    # The network computes in the precision in which it was explained.
    network = load_classifier(args.checkpoint, device, heatmaps.settings["precision"])
    batch = Batch(explanation.batch_size)
    usable = np.flatnonzero(~heatmaps.constant[rows])
    results: dict[str, np.ndarray] = {}
    # Once where all heatmaps are constant, for the shapes.
    for start in tqdm(range(0, max(1, len(usable)), explanation.chunk), "faithfulness", unit="chunk", disable=None):
        chunk = usable[start : start + explanation.chunk]
        logits = torch.from_numpy(heatmaps.arrays["logits"][rows[chunk]]).to(device)
        arrays = curves(
            make_score(network, logits, explanation.target, "logit"),
            to_device(split.patches[index[chunk]], device),
            heatmaps.read(rows[chunk]),
            [patch_seed(seed, int(patch)) for patch in index[chunk]],
            settings,
            batch,
        )
        for name, values in arrays.items():
            results.setdefault(name, np.full((count, *values.shape[1:]), np.nan, np.float32))[chunk] = values
    write_arrays(
        args.faithfulness,
        {
            **{f"{name}_curve": values for name, values in results.items()},
            **areas(results, heatmaps.settings["reduce"]),
            "index": index,
            "slides": np.unique(split.meta["wsi"].to_numpy()[index], return_inverse=True)[1],
        },
    )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="safetensors file that train wrote")
    parser.add_argument("--heatmaps", type=Path, required=True, help="HDF5 file that explain wrote")
    parser.add_argument("--faithfulness", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
