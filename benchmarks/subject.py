"""What the benchmarks measure on: a trained network of the experiment and its test patches, or stand-ins."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pcam_agreement import inference, names, networks, params, pcam, synthetic

DATA = Path("data")


def network(name: str, device: torch.device, precision: str = "32") -> networks.Classifier:
    """The checkpoint of `dvc repro` of a key of `network`, or, where there is none, it as it is drawn (and said)."""
    path = DATA / "checkpoints" / f"{name}.safetensors"
    if path.exists():
        return networks.load(path, device, precision)
    print(f"{path} is not there: {name} is measured untrained.", file=sys.stderr)
    torch.manual_seed(0)
    untrained = networks.build(architecture(name), "none", "native").eval()
    networks.fold_batch_norms(untrained.backbone)
    untrained.requires_grad_(False).backbone.to(networks.PRECISION[precision])
    return untrained.to(device).to(memory_format=torch.channels_last)


def architecture(name: str) -> str:
    return names.named("network", name, params.load().network).architecture


def as_trained(name: str, device: torch.device) -> networks.Classifier:
    """The same network, batch norms and all: what a library is given that knows nothing of folding."""
    path = DATA / "checkpoints" / f"{name}.safetensors"
    torch.manual_seed(0)
    network = networks.build(architecture(name), "none", "native")
    if path.exists():
        network.backbone.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def patches(count: int, device: torch.device) -> Tensor:
    """A stratified draw of test patches of the experiment, or of synthetic ones: float32 [n, 3, 96, 96]."""
    folder = DATA / "patches"
    if not (folder / pcam.CONTENTS).exists():
        folder = Path(tempfile.mkdtemp())
        slides = params.SplitSlides(train=1, valid=1, test=1 + count // 96)
        synthetic.generate(folder, params.Synthetic(slides=slides, patches_per_slide=96), seed=0)
    split = pcam.read(folder, "test")
    return inference.to_device(split.patches[pcam.draw(split.labels, count, 0)], device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long the work takes, until the device has done it."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    """The median of the ratios of times that were measured one after the other."""
    return float(np.median([first / second for first, second in pairs]))


def machine(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{model}, {torch.get_num_threads()} threads"
