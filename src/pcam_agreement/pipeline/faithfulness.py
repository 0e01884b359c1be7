"""Faithfulness of a recipe's heatmaps by one method: deletion and insertion of their highest pixels.

python -m pcam_agreement.pipeline.faithfulness test_resnet --patches … --checkpoints … --heatmaps … --faithfulness …

Of its first training and its first untrained one: trainings of one recipe differ little in this.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.attribution.faithfulness.curves import areas, curves
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.core import command
from pcam_agreement.core.files import write_arrays
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.core.settings import Device, Seed, read_params, section
from pcam_agreement.data.pcam import Split, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.logits import to_device
from pcam_agreement.networks.recipes import networks


def main(args: Namespace) -> None:
    """In the file: what `curves` (as <name>_curve) and `areas` give, each [m, n, …] of m networks; their names, as
    `networks`; index and slides (numbered) of the n patches."""
    raw = read_params(args.params)
    seed, explanation = section(raw, "seeds.perturbation", Seed), section(raw, "explain", Explanation)
    settings = section(raw, "faithfulness", Faithfulness)
    device = choose_device(section(raw, "device", Device))
    split = read_split(args.patches, "test")
    of_recipe = networks({**raw, "recipes": [args.recipe]})
    tested = [next(network for network in of_recipe if network.trained)]
    tested += [network for network in of_recipe if not network.trained][:1]
    results: list[dict[str, np.ndarray]] = []
    for network in tested:
        heatmaps = open_heatmaps(network.path(args.heatmaps, ".h5"))
        # Evenly spaced, the same for all networks and methods: neighbours are often of one slide.
        count = min(settings.patches, len(heatmaps.index))
        rows = np.linspace(0, len(heatmaps.index) - 1, count).round().astype(int)
        # The network computes in the precision in which it was explained.
        precision = heatmaps.settings["precision"]
        classifier = load_classifier(network.path(args.checkpoints, ".safetensors"), device, precision)
        results.append(_measure(classifier, device, split, heatmaps, rows, seed, explanation, settings))
    index = heatmaps.index[rows]
    write_arrays(
        args.faithfulness,
        {
            **{name: np.stack([arrays[name] for arrays in results]) for name in results[0]},
            "networks": np.array([network.name for network in tested], dtype="S"),
            "index": index,
            "slides": np.unique(split.meta["wsi"].to_numpy()[index], return_inverse=True)[1],
        },
    )


def _measure(
    classifier: Classifier,
    device: torch.device,
    split: Split,
    heatmaps: Heatmaps,
    rows: np.ndarray,
    seed: int,
    explanation: Explanation,
    settings: Faithfulness,
) -> dict[str, np.ndarray]:
    """Curves and areas of these rows of the heatmaps, NaN where one is constant."""
    index, batch = heatmaps.index[rows], Batch(explanation.batch_size)
    usable = np.flatnonzero(~heatmaps.constant[rows])
    results: dict[str, np.ndarray] = {}
    # Once where all heatmaps are constant, for the shapes.
    for start in tqdm(range(0, max(1, len(usable)), explanation.chunk), "faithfulness", unit="chunk", disable=None):
        chunk = usable[start : start + explanation.chunk]
        logits = torch.from_numpy(heatmaps.arrays["logits"][rows[chunk]]).to(device)
        arrays = curves(
            make_score(classifier, logits, explanation.target, "logit"),
            to_device(split.patches[index[chunk]], device),
            heatmaps.read(rows[chunk]),
            [seed_of(seed, int(patch)) for patch in index[chunk]],
            settings,
            batch,
        )
        for name, values in arrays.items():
            results.setdefault(name, np.full((len(rows), *values.shape[1:]), np.nan, np.float32))[chunk] = values
    named = {f"{name}_curve": values for name, values in results.items()}
    return {**named, **areas(results, heatmaps.settings["reduce"])}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a key of `network` in the parameters")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--patches", type=Path, required=True, help="folder that fetch wrote")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder of train, with one folder a recipe")
    parser.add_argument("--heatmaps", type=Path, required=True, help="a method's folder of heatmaps")
    parser.add_argument("--faithfulness", type=Path, required=True, help="HDF5 file to write")
    command.run(main, parser)
