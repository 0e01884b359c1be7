"""All that a GPU is asked, in one go: does it compute what the CPU does, and how fast? One Markdown table.

python benchmarks/gpu.py [--network resnet34]       # at most ten minutes on a GPU
python benchmarks/gpu.py --quick                    # minutes on a CPU, the smallest network: that the script works

Networks are those of data/ or, where there are none, untrained on synthetic patches (said on stderr). Correctness in 32
bits; rates of passes in channels-last bf16 (on a CPU in 32 bits), ours over those of the bare backbone, compiled, and
as a share of the peak, which is that of a product of matrices here; what methods cost beyond passes (`explain.py`); a
training step over one on resident tensors (`data.py`); superpixels and regression beside LIME's passes; the hours of
seven networks by three methods on the whole test split, with the methods' settings of profiles/full.yaml, in bf16 and
the fastest batches (`grid.py`). What is compiled comes last, as it takes longest to begin.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import data
import grid
import numpy as np
import subject
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.attribution.explain import Explainer
from pcam_agreement.core import plugins
from pcam_agreement.data.pcam import read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import PRECISION
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.pipeline.params import Params

CPU = torch.device("cpu")
METHODS = ("saliency", "integrated_gradients", "lime")
PAPER = ("resnet34", "resnet50", "densenet121", "vit_b_16", "alexnet", "vgg11", "efficientnet_b1")
TEST_SPLIT = 32_768
FIXED: dict[str, dict] = {  # no rounds: another rounding could stop at another one
    "integrated_gradients": {"n_steps": 16, "max_steps": 16},
    "lime": {"segments": 64, "samples": 200, "max_samples": 200},
}
Row = tuple[str, str, str]  # what, measured, wanted


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", help="a key of `network` in params.yaml; resnet34, with --quick test_resnet")
    parser.add_argument("--quick", action="store_true", help="little of everything, for a CPU")
    args = parser.parse_args()
    name = args.network or ("test_resnet" if args.quick else "resnet34")
    device = choose_device("auto" if args.quick else "cuda")
    few = 2 if args.quick else 64
    profile = Path("profiles/cpu.yaml" if args.quick else "profiles/full.yaml")
    settings, patches = grid.settings_of(profile), subject.patches(few, device)
    print(f"{name} on {subject.machine(device)}, torch {torch.__version__}, {date.today()}\n")
    print("| question | measured | wanted |\n|---|---|---|")
    for rows in (
        correctness(name, settings, patches),
        passes(name, device, 16 if args.quick else 4096),
        overheads(name, args.quick),
        training(name, 16 if args.quick else 256, precision_of(device)),
        hours((name,) if args.quick else PAPER, settings, patches),
        () if args.quick else compiled(name, device),
    ):
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)


def correctness(name: str, settings: Params, patches: Tensor) -> Iterator[Row]:
    """Heatmaps of one network by the CPU and by the device."""
    device, count = patches.device, len(patches)
    explanation = settings.explain.model_copy(update={"precision": "32"})
    for method in METHODS:
        module, chosen = plugins.load(plugins.METHODS, "method", method), subject.method_settings(method)
        chosen = chosen.model_copy(update=FIXED.get(method, {}))

        def heatmaps(on: torch.device, module=module, chosen=chosen) -> np.ndarray:
            explainer = Explainer(subject.network(name, on), module, chosen, explanation, Batch(64))
            return explainer.heatmaps(patches.to(on), range(count))["heatmaps"]

        maps, again, expected = heatmaps(device), heatmaps(device), heatmaps(CPU)
        masks = [top_mask(each.reshape(count, -1).astype(np.float32), 0.25) for each in (maps, expected)]
        iou = overlap(*masks)
        yield f"{method}: mask IoU with the CPU's, mean (lowest)", f"{iou.mean():.3f} ({iou.min():.3f})", "0.98"
        yield f"{method}: twice the same bytes", "yes" if maps.tobytes() == again.tobytes() else "NO", "yes"


def passes(name: str, device: torch.device, most: int) -> Iterator[Row]:
    """Passes in channels last: through our network and the bare backbone; the share of the peak."""
    precision = precision_of(device)
    network = subject.network(name, device, precision)
    peak = matrices(device, PRECISION[precision])
    yield f"peak in {precision}, by a product of matrices", f"{peak / 1e12:.2f} TFLOP/s", ""
    with FlopCounterMode(display=False) as counter:  # with gradients: without, it does not see fused layers
        network(torch.rand(8, 3, 96, 96, device=device).requires_grad_(True))
    for kind, ways in (("forward", 1), ("gradient", 2)):  # the way back to the pixels has as many operations
        ours = work_of(network, kind, device)
        size, rate = subject.fastest(ours, most)
        share = ways * counter.get_total_flops() / 8 * rate / peak
        yield f"{kind}: patches a second, batches of {size}", f"{rate:,.0f}", ""
        yield f"{kind}: share of the peak", f"{share:.2f}", ""
        bare = bare_work(network, kind, device)
        yield f"{kind}: rate over the bare backbone's", f"{ratio(bare, ours, size, device):.2f}", "0.95"


def compiled(name: str, device: torch.device) -> Iterator[Row]:
    """Passes through a compiled backbone beside the same passes through one that is not."""
    precision = precision_of(device)
    network = subject.network(name, device, precision)
    for kind in ("forward", "gradient"):
        ours = work_of(network, kind, device)
        size, _ = subject.fastest(ours)
        for mode in ("default", "reduce-overhead"):
            other = subject.network(name, device, precision)
            try:
                other.backbone.compile(mode=mode)
                gain = f"{ratio(ours, work_of(other, kind, device), size, device):.2f}"
            except Exception as error:  # of a compiler that is not there, of a function that it does not know
                gain = f"failed: {type(error).__name__}"
            graphs = ", CUDA graphs" if mode != "default" else ""
            yield f"{kind}: rate compiled{graphs} over not", gain, "where it pays"


def work_of(network: Classifier, kind: str, device: torch.device) -> Callable[[int], object]:
    """Passes of so many patches as a method makes them."""
    score = make_score(network, torch.zeros(1, device=device), "tumour", "logit")
    patches = torch.rand(1, 3, 96, 96, device=device).expand(4096, -1, -1, -1)

    def work(size: int) -> Tensor:
        inputs, rows = patches[:size].contiguous(), torch.zeros(size, dtype=torch.int64, device=device)
        if kind == "gradient":
            return gradient(score, inputs, rows)
        with torch.no_grad():
            return score(inputs, rows)

    return work


def bare_work(network: Classifier, kind: str, device: torch.device) -> Callable[[int], object]:
    """The same of the backbone alone, on inputs in its precision and layout that are there."""
    inner, backbone = next(network.backbone.parameters()).dtype, network.backbone
    inputs = torch.rand(4096, 3, network.size, network.size, device=device, dtype=inner)
    inputs = inputs.to(memory_format=torch.channels_last)

    def work(size: int) -> Tensor:
        if kind == "gradient":
            leaf = inputs[:size].detach().requires_grad_(True)
            return torch.autograd.grad(backbone(leaf).sum(), leaf)[0]
        with torch.no_grad():
            return backbone(inputs[:size])

    return work


def ratio(
    first: Callable[[int], object], second: Callable[[int], object], size: int, device: torch.device, repeats: int = 5
) -> float:
    """The time of the first over that of the second, the median of interleaved repeats; neither is timed cold."""
    for _ in range(2):
        first(size), second(size)
    times = [[subject.seconds(lambda: work(size), device) for work in (first, second)] for _ in range(repeats)]  # noqa: B023
    return subject.median_ratio([(a, b) for a, b in times])


def precision_of(device: torch.device) -> str:
    """In which passes are timed: not every processor computes in bf16."""
    return "bf16" if device.type == "cuda" else "32"


def matrices(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of matrices."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.rand(side, side, device=device, dtype=dtype)
    a @ a
    return 2 * side**3 / min(subject.seconds(lambda: a @ a, device) for _ in range(5))


def overheads(name: str, quick: bool) -> Iterator[Row]:
    """What methods cost beyond their passes, in 32 bits: `explain.py`."""
    command = [sys.executable, str(Path(__file__).with_name("explain.py")), "--network", name, "--json"]
    command += ["--methods", *METHODS, "--repeats", "1" if quick else "3"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        yield "time of methods over that of their passes", f"failed: exit status {done.returncode}", "1.05"
        return
    found = json.loads(done.stdout)
    for method, value in found.items():
        yield f"{method}: time over that of its passes", f"{value:.2f}", "1.05"


def training(name: str, batch_size: int, precision: str) -> Iterator[Row]:
    """A training step over one on tensors that are on the device: `data.py`."""
    with tempfile.TemporaryDirectory() as folder:
        slides = DrawnSlides(slides=SplitSlides(train=1, valid=1, test=1), patches_per_slide=min(1024, 6 * batch_size))
        synthetic.write(Path(folder), slides, seed=0)
        split = read_split(Path(folder), "train")
        value, rate = data.step_over_resident(name, split, batch_size, 3, 3, precision=precision)
    yield f"training step over resident tensors, in {precision}, batches of {batch_size}", f"{value:.2f}", "1.05"
    yield f"training in {precision}: patches a second", f"{rate:,.0f}", ""


def hours(names: tuple[str, ...], settings: Params, patches: Tensor) -> Iterator[Row]:
    """The paper's grid, and what of LIME is not passes."""
    device, count, precision = patches.device, len(patches), precision_of(patches.device)
    chosen = subject.method_settings("lime", {"method": settings.method})
    pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
    segments = superpixels_of_all(pixels, chosen.superpixels, chosen.segments)
    drawn = subject.seconds(lambda: superpixels_of_all(pixels, chosen.superpixels, chosen.segments), CPU) / count
    free = make_score(Free().eval(), torch.zeros(count, device=device), "tumour", "logit")
    lime = plugins.load(plugins.METHODS, "method", "lime")

    def without_passes() -> None:
        lime.attribute(free, patches, range(count), chosen, Batch(256), superpixels=segments)

    without_passes()
    regression = subject.seconds(without_passes, device) / count
    total, of_lime = 0.0, 0.0
    for name in names:
        network = subject.network(name, device, precision)
        sizes = {kind: grid.batch_size(network, kind, device) for kind in ("forward", "gradient")}
        for method in METHODS:
            size = sizes["forward" if method in subject.FORWARD else "gradient"]
            rate = grid.rate(network, method, settings, patches, size)
            total += 1 / rate
            of_lime += (method == "lime") / rate / len(names)
            yield f"{name}, {method}: heatmaps a second in {precision}, batches of {size}", f"{rate:,.1f}", ""
    yield "superpixels of a patch over its LIME, once for all networks", f"{drawn / of_lime:.2f}", "1"
    yield "LIME with a network that costs nothing, over LIME", f"{regression / of_lime:.2f}", "0.05"
    many = f"{len(names)} network{'s' if len(names) > 1 else ''} x {len(METHODS)} methods x {TEST_SPLIT:,} patches"
    yield f"hours of {many} in {precision}", f"{total * TEST_SPLIT / 3600:.2f}", "1" if names == PAPER else ""


class Free(nn.Module):
    """A network that costs nothing."""

    def forward(self, patches: Tensor) -> Tensor:
        return patches[:, 0, 48, 48]


if __name__ == "__main__":
    main()
