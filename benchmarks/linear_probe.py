"""What features that are computed once save: an epoch of a frozen network's head on them, over one through the network.

python benchmarks/linear_probe.py [--weights ../shared/weights/….safetensors] [--patches 512] [--json]

A ViT-S/14 with random weights, unless they are given: they change no time. through_over_features: seconds of an epoch,
as `training.fit` does it, in which patches go through the frozen network, over one on its features; the median of
interleaved repeats. extraction_over_through: computing the features of as many patches, once for all trainings, over an
epoch through the network. Reading batches and Lightning are in both epochs, validation and checkpoints in neither.
"""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import subject
import torch
from data import trained
from lightning import seed_everything
from safetensors.torch import save_file
from torch import nn

from pcam_agreement.core.settings import read_params
from pcam_agreement.data.pcam import read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.networks.classifier import build_classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline.params import check_params
from pcam_agreement.training.batches import Data
from pcam_agreement.training.features import Head, read_features, write_features
from pcam_agreement.training.fit import Learner
from pcam_agreement.training.settings import Recipe

ARCHITECTURE = "timm/vit_small_patch14_dinov2"


def recipe(weights: Path, batch_size: int) -> Recipe:
    raw = read_params()
    frozen = {"architecture": ARCHITECTURE, "weights": str(weights), "freeze": True, "schedule": "constant"}
    raw["network"]["probe"] = {**frozen, "flips": False, "quarter_turns": False, "stain_jitter": 0.0}
    raw["network"]["probe"]["batch_size"] = batch_size
    return check_params(raw).network["probe"]


def measure(folder: Path, weights: Path | None, patches: int, batch_size: int, repeats: int) -> dict[str, float]:
    device = choose_device("auto")
    if weights is None:
        weights = folder / "random.safetensors"
        save_file(build_classifier(ARCHITECTURE, "none", "native").backbone.state_dict(), weights)
    slides = SplitSlides(train=patches // 64, valid=1, test=1)
    synthetic.write(folder, DrawnSlides(slides=slides, patches_per_slide=64), seed=0)
    settings, split, network = recipe(weights, batch_size), read_split(folder, "train"), Network("probe", "1", "")
    path = folder / "probe.h5"
    every = sum(len(read_split(folder, name).labels) for name in ("train", "valid", "test"))
    extraction = subject.seconds(lambda: write_features(settings, folder, "auto", path), device)
    steps, pairs = len(split.labels) // batch_size - 1, []  # the first is not timed

    def epoch(model: nn.Module, inputs: np.ndarray, changed: dict[str, object]) -> float:
        seed_everything(0, verbose=False)
        whole, chosen = (inputs, split.labels, np.arange(len(split.labels))), settings.model_copy(update=changed)
        learner = Learner(network, model, chosen)
        return trained(learner, Data(whole, whole, chosen, 0), device, steps) * (steps + 1)

    classifier = build_classifier(settings.architecture, settings.weights, settings.input)
    features = read_features(path, classifier)["train"]
    classifier.freeze()
    classifier.to(memory_format=torch.channels_last)
    for _ in range(repeats):
        on_features = epoch(Head(classifier), features, {})
        # what sends patches through the network where nothing is augmented: weights of each training's own
        pairs.append((epoch(classifier, split.patches, {"weights": "{training}"}), on_features))
    through, on_features = (float(np.median(seconds)) for seconds in zip(*pairs, strict=True))
    return {
        "through_over_features": subject.median_ratio(pairs),
        "extraction_over_through": extraction / every * len(split.labels) / through,
        "epoch_through_seconds": through,
        "epoch_on_features_seconds": on_features,
        "extracted_patches_a_second": every / extraction,
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a state dict of the ViT-S/14")
    parser.add_argument("--patches", type=int, default=512, help="to train on, a multiple of 64")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.weights, args.patches, args.batch_size, args.repeats)
    found = {name: round(value, 3 if value < 10 else 0) for name, value in found.items()}
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28} {value:10}")
        print(f"{ARCHITECTURE}, {args.patches} patches, on {subject.machine(choose_device('auto'))}")


if __name__ == "__main__":
    main()
