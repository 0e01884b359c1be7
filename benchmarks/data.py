"""Whether training waits for its data: a set of PatchCamelyon's size, read, and trained on.

python benchmarks/data.py [--network resnet34] [--json]

read_over_seed: patches a second, in random batches of 256 out of the train split, over those of the reader that this
project began with (two HDF5 files opened an item, PIL, a float tensor). step_over_resident: the time of a training step
(gather, conversion, augmentation, Lightning) over that of a batch that is on the device already, as a float tensor, not
augmented, in a bare loop; the median of interleaved repeats. The set is written to a temporary folder and removed:
7.5 GB, of which --slides slides of 1,024 patches are drawn (timed) and then repeated, shifted, until the split is full.
"""

import json
import resource
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import subject
import torch
from lightning import Callback, Trainer
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.transforms.functional import to_tensor

from pcam_agreement.core.settings import read_params
from pcam_agreement.data.pcam import Split, file_name, read_split, write_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.networks.classifier import build_classifier, to_float
from pcam_agreement.networks.device import choose_device
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline.params import check_params
from pcam_agreement.training.batches import Data, Source
from pcam_agreement.training.fit import PRECISION, Learner

TRAIN = 262_144
PER_SLIDE = 1024


def draw(folder: Path, slides: int) -> dict[str, float]:
    """Draw some slides for real; what that costs."""
    splits = SplitSlides(train=slides, valid=1, test=1)
    start = time.perf_counter()
    synthetic.write(folder, DrawnSlides(slides=splits, patches_per_slide=PER_SLIDE), seed=0)
    took = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"drawn_patches_a_second": PER_SLIDE * (slides + 2) / took, "largest_process_mib": peak / 1024}


def fill(drawn: Path, folder: Path, name: str, count: int) -> Split:
    """A split of this many patches: those that were drawn, again and again, each time moved by a pixel more."""
    few = read_split(drawn, "train")

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, count, PER_SLIDE):
            block = few.patches[start % len(few.patches) :][: min(PER_SLIDE, count - start)]
            yield np.roll(block, start // len(few.patches), axis=2)

    rows = np.arange(count) % len(few.labels)
    meta: pd.DataFrame = few.meta.iloc[rows].reset_index(drop=True)
    write_split(folder, name, blocks(), few.labels[rows], meta)
    return read_split(folder, name)


def seed_reader(folder: Path, number: int) -> tuple[torch.Tensor, int]:
    """An item as the original project read it."""
    with h5py.File(folder / file_name("train", "x")) as file:
        patch = to_tensor(Image.fromarray(file["x"][number]))
    with h5py.File(folder / file_name("train", "y")) as file:
        return patch, int(file["y"][number].squeeze())


def read_over_seed(folder: Path, split: Split) -> float:
    cpu, pairs = torch.device("cpu"), []
    source = Source(split.patches, split.labels, np.arange(len(split.labels)), "memmap", cpu)
    numbers = np.random.default_rng(0).permutation(len(split.labels))

    def theirs(own: np.ndarray) -> None:
        for number in own:
            seed_reader(folder, number)

    def ours(own: np.ndarray) -> None:
        for start in range(0, len(own), 256):
            source.gather(own[start : start + 256])

    for repeat in range(5):
        own = numbers[repeat * 8192 :][:8192]
        ours(own)  # both read what is in the page cache
        slow = subject.seconds(partial(theirs, own[:512]), cpu) / 512
        pairs.append((slow, subject.seconds(partial(ours, own), cpu) / len(own)))
    return subject.median_ratio(pairs)


class Clock(Callback):
    """The seconds from the end of the first step to that of the last."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, number: int) -> None:
        if torch.cuda.is_available() and number in (0, trainer.max_steps - 1):
            torch.cuda.synchronize()
        if number == 0:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start


def trained(learner: Learner, data: Data, device: torch.device, steps: int) -> float:
    """Seconds a step, as `training.train` does it."""
    clock = Clock()
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=PRECISION[learner.settings.precision],
        max_steps=steps + 1,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn",
    )
    trainer.fit(learner, datamodule=data)
    return clock.seconds / steps


def resident(learner: Learner, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device, steps: int) -> float:
    """Seconds a step of a bare loop on one batch, float and on the device."""
    learner.to(device).train()
    optimiser: Any = learner.configure_optimizers()["optimizer"]  # type: ignore[index]
    reduced = learner.settings.precision == "bf16"

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            loss = binary_cross_entropy_with_logits(learner.run(batch[0]), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step()
    return subject.seconds(lambda: [step() for _ in range(steps)], device) / steps


def step_over_resident(
    name: str, split: Split, batch_size: int, steps: int, repeats: int, **change: object
) -> tuple[float, float]:
    """The ratio, and patches a second of training; change: of the recipe's settings."""
    device, settings = choose_device("auto"), check_params(read_params()).network[name]
    torch.backends.cudnn.allow_tf32 = True  # as in training
    settings = settings.model_copy(update={"schedule": "constant", "batch_size": batch_size, **change})
    whole = (split.patches, split.labels, np.arange(len(split.labels)))
    torch.manual_seed(0)
    network = Network(name, "1", settings.architecture)
    classifier = build_classifier(settings.architecture, "none", settings.input).to(memory_format=torch.channels_last)
    learner = Learner(network, classifier, settings)
    first = to_float(torch.from_numpy(split.patches[:batch_size].copy()).to(device))
    labels = torch.from_numpy(split.labels[:batch_size].copy()).float().to(device)
    pairs = []
    for _ in range(repeats):
        ours = trained(learner, Data(whole, whole, settings, 0), device, steps)
        pairs.append((ours, resident(learner, (first, labels), device, steps)))
    return subject.median_ratio(pairs), batch_size / float(np.median([own for own, _ in pairs]))


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet34", help="a key of `network` in params.yaml")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="of training, in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slides", type=int, default=6, help="of 1,024 patches, to draw; 256: none repeated")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn, full = Path(folder) / "drawn", Path(folder) / "full"
        drawn.mkdir()
        full.mkdir()
        found = draw(drawn, args.slides)
        split = fill(drawn, full, "train", TRAIN)
        found["read_over_seed"] = read_over_seed(full, split)
        ratio, rate = step_over_resident(args.network, split, args.batch_size, args.steps, args.repeats)
        found |= {"step_over_resident": ratio, "trained_patches_a_second": rate}
    found = {name: round(value, 3 if value < 10 else 0) for name, value in found.items()}
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value:10}")
        print(f"{args.network}, batches of {args.batch_size}, on {subject.machine(choose_device('auto'))}")


if __name__ == "__main__":
    main()
