"""Features: what the head of a frozen network reads of every patch, computed once for all trainings of a recipe."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement.core.files import atomic_file, existing
from pcam_agreement.data.pcam import SPLITS, read_split
from pcam_agreement.networks.checkpoint import backbone_sha256
from pcam_agreement.networks.classifier import Classifier, build_classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.logits import BATCH_SIZE, to_device
from pcam_agreement.networks.weights import last_line
from pcam_agreement.training.settings import Recipe

AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}  # as Lightning's mixed precision


class Head(nn.Module):
    """The head of a classifier alone: from features [n, ...] to logits [n]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.layer = classifier.head_layer()

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features).flatten(1).mean(1)  # of a convolution, the map is pooled behind it


def write_features(settings: Recipe, patches: Path, device: str, path: Path) -> None:
    """Write the features of all splits: float32 [N, ...] by the name of the split, and the backbone's SHA-256.

    Raises ValueError where the device, the weights or the data are not what was asked for, and where the head is not
    the network's last layer.
    """
    on = choose_device(device)
    classifier = build_classifier(
        settings.architecture,
        settings.weights,
        settings.input,
        normalisation=settings.normalisation,
        pooling=settings.pooling,
        options=settings.options.items(),
    )
    classifier = classifier.to(on).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    splits = [read_split(patches, name) for name in SPLITS]
    shape = _features(classifier, to_device(splits[0].patches[:2], on), settings).shape[1:]
    counts = {split.name: len(split.patches) for split in splits}
    with atomic_file(path, 4 * sum(counts.values()) * int(np.prod(shape))) as partial, h5py.File(partial, "w") as file:
        file.attrs["backbone"] = backbone_sha256(classifier)
        with tqdm(total=sum(counts.values()), desc="features", unit="patch", disable=None) as progress:
            for split in splits:
                dataset = file.create_dataset(split.name, (counts[split.name], *shape), np.float32)
                for start, batch in _batches(split.patches):
                    features = _features(classifier, to_device(batch, on), settings)
                    dataset[start : start + len(batch)] = features.cpu().numpy()
                    progress.update(len(batch))


def read_features(path: Path, classifier: Classifier) -> dict[str, np.ndarray]:
    """The features of each split, float32 [N, ...], memory-mapped.

    Raises ValueError where the file is missing or is none of `write_features`, and where the classifier's backbone is
    not the one they are of.
    """
    again = f"run dvc repro --force --single-item features@{path.stem}."
    try:
        with h5py.File(existing(path), "r") as file:
            backbone = file.attrs["backbone"]
            places = {name: (file[name].id.get_offset(), file[name].shape) for name in SPLITS}
    except (KeyError, OSError) as error:
        raise ValueError(f"{path} holds no features, or a part of them ({last_line(error)}); {again}") from error
    if backbone != backbone_sha256(classifier):
        raise ValueError(
            f"{path} has the features of other weights than those of {classifier.architecture} now; {again}"
        )
    return {name: np.memmap(path, np.float32, "r", offset, shape) for name, (offset, shape) in places.items()}


def _batches(patches: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(patches), BATCH_SIZE):
        yield start, patches[start : start + BATCH_SIZE]


@torch.inference_mode()
def _features(classifier: Classifier, patches: Tensor, settings: Recipe) -> Tensor:
    """The input of the head, float32 [n, ...], of patches [n, 3, 96, 96]; checked to be all that the logits depend on.

    Raises ValueError where it is not: where there is more behind the head.
    """
    seen: list[Tensor] = []
    precise = settings.precision == "32"
    autocast = nullcontext() if precise else torch.autocast(patches.device.type, AUTOCAST[settings.precision])
    handle = classifier.head_layer().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with autocast:
            logits = classifier(patches)
    finally:
        handle.remove()
    with autocast:
        again = Head(classifier)(seen[0])
    if not torch.allclose(again.float(), logits.float(), 0.01, 0.01 * float(logits.abs().max()), equal_nan=True):
        raise ValueError(
            f"the logits of {classifier.architecture} are not what its head gives: its features cannot be kept; set "
            "freeze to false, or choose another architecture."
        )
    return seen[0].float()
