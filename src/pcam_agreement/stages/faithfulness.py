"""Faithfulness of one network's heatmaps: does deleting and inserting their highest pixels change the score soon?"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pcam_agreement import command, explaining, faithfulness, networks, params, pcam, resume, store
from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.score import make_score
from pcam_agreement.inference import to_device


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    explanation, chosen = settings.explain, settings.faithfulness
    device = networks.device(settings.device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    split = pcam.read(args.patches, "test")
    heatmaps = store.open_heatmaps(args.heatmaps)
    # Evenly spaced, for all networks and methods the same: neighbours are often of one slide.
    count = min(chosen.patches, len(heatmaps.index))
    rows = np.linspace(0, len(heatmaps.index) - 1, count).round().astype(int)
    index = heatmaps.index[rows]
    memory = resume.place() / "fastest.json"
    # The network computes as it did when it was explained; forward passes only, as occlusion needs them.
    precision = heatmaps.settings["precision"]
    as_explained = explanation.model_copy(update={"precision": precision})
    _, size = explaining.fastest_setting(args.checkpoint, "occlusion", as_explained, device, memory)
    network, batch = networks.load(args.checkpoint, device, precision), Batch(size)
    says = np.flatnonzero(~heatmaps.constant[rows])
    results: dict[str, np.ndarray] = {}
    # Once where no heatmap says anything, for the shapes.
    for start in tqdm(range(0, max(1, len(says)), explanation.chunk), desc="faithfulness", unit="chunk", disable=None):
        part = says[start : start + explanation.chunk]
        logits = torch.from_numpy(heatmaps.arrays["logits"][rows[part]]).to(device)
        found = faithfulness.curves(
            make_score(network, logits, explanation.target, "logit"),
            to_device(split.patches[index[part]], device),
            heatmaps.read(rows[part]),
            [explaining.patch_seed(settings.seed, int(patch)) for patch in index[part]],
            chosen,
            batch,
        )
        for name, values in found.items():
            results.setdefault(name, np.full((count, *values.shape[1:]), np.nan, np.float32))[part] = values
    store.write_arrays(
        args.faithfulness,
        {
            **{f"{name}_curve": values for name, values in results.items()},
            **faithfulness.areas(results, heatmaps.settings["reduce"]),
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
