"""What the benchmarks measure on: a trained network of the experiment and its test patches, or stand-ins."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.core import plugins
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.pcam import CONTENTS, read_split, stratified_sample
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import PRECISION, fold_batch_norms, load_classifier
from pcam_agreement.networks.checkpoint import read_checkpoint
from pcam_agreement.networks.classifier import Classifier, build_classifier
from pcam_agreement.networks.logits import to_device
from pcam_agreement.networks.recipes import Network, networks

DATA = Path("data")
METHODS = [name for name in plugins.available(plugins.METHODS) if name not in ("random", "centre")]
FORWARD = ("occlusion", "lime", "kernel_shap", "feature_ablation", "shapley_value_sampling")  # of forward passes alone
GAIN = 1.03  # a batch twice as large must be this much faster, a patch, to be taken


def network(name: str, device: torch.device, precision: str = "32") -> Classifier:
    """The first training of a key of `network`, as `dvc repro` left it; where there is none, untrained (and said)."""
    torch.backends.cudnn.allow_tf32 = False  # as in inference.load
    path = _first(name).path(DATA / "checkpoints", ".safetensors")
    if path.exists():
        return load_classifier(path, device, precision)
    print(f"{path} is not there: {name} is measured untrained.", file=sys.stderr)
    torch.manual_seed(0)
    untrained = build_classifier(_first(name).architecture, "none", "native").eval()
    fold_batch_norms(untrained.backbone)
    untrained.requires_grad_(False).backbone.to(PRECISION[precision])
    return untrained.to(device).to(memory_format=torch.channels_last)


def _first(recipe: str) -> Network:
    return networks({**read_params(), "recipes": [recipe]})[0]


def as_trained(name: str, device: torch.device) -> Classifier:
    """The same network, batch norms and all: what a library is given that knows nothing of folding."""
    path = _first(name).path(DATA / "checkpoints", ".safetensors")
    torch.manual_seed(0)
    network = read_checkpoint(path) if path.exists() else build_classifier(_first(name).architecture, "none", "native")
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def patches(count: int, device: torch.device) -> Tensor:
    """A stratified sample of test patches of the experiment, or of synthetic ones: float32 [n, 3, 96, 96]."""
    folder = DATA / "patches"
    if not (folder / CONTENTS).exists():
        folder = Path(tempfile.mkdtemp())
        slides = SplitSlides(train=1, valid=1, test=1 + count // 96)
        synthetic.write(folder, DrawnSlides(slides=slides, patches_per_slide=96), seed=0)
    split = read_split(folder, "test")
    return to_device(split.patches[stratified_sample(split.labels, count, 0)], device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long the work takes, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()  # what was asked for before is not counted
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


def method_settings(name: str, raw: dict | None = None, **change: object) -> Any:
    """A method's block of params.yaml (or of these parameters), with these settings changed."""
    kind = plugins.load(plugins.METHODS, "method", name).Settings
    return section(raw or read_params(), f"method.{name}", kind).model_copy(update=change)


def attribute(
    method: str,
    score: Any,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Any,
    size: int,
    options: dict[str, Any] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """A method's attribution and diagnostics, superpixels included, where they are not in the options."""
    module = plugins.load(plugins.METHODS, "method", method)
    options = superpixels(patches, settings) if options is None else options
    return module.attribute(score, patches, seeds, settings, Batch(size), **options)


def superpixels(patches: Tensor, settings: Any) -> dict[str, Any]:
    """The superpixels of a method that needs them, as its argument."""
    if not hasattr(settings, "superpixels"):
        return {}
    pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
    return {"superpixels": superpixels_of_all(pixels, settings.superpixels, settings.segments)}


def fastest(work: Callable[[int], object], most: int = 4096) -> tuple[int, float]:
    """The batch size, a power of two from 8, at which work(size) is fastest or nearly so; its rate, patches a second.

    Stops where doubling does not pay or memory ends.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best, best_rate, size = 8, 0.0, 8
    while size <= most:
        try:
            work(size)
            spent = min(seconds(lambda: work(size), device) for _ in range(2))  # noqa: B023
        except torch.OutOfMemoryError:
            break
        if size / spent < best_rate * GAIN:
            break
        best, best_rate = size, size / spent
        size *= 2
    return best, best_rate
