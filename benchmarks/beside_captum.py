"""What an adapter costs beyond Captum called by hand, and how our own methods stand beside Captum's.

python benchmarks/beside_captum.py [--network test_resnet] [--patches 8] [--repeats 3] [--json]

Every time is over Captum's on the same network (batch norms folded) and patches, either at the batch size that is best
for it, in one process; the median of interleaved repeats. Without a GPU these are seconds of the processor, which other
processes disturb less than those of the clock. Superpixels are made before, and the same for both. What differs is
said where the two are not the same map.
"""

import json
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any

import captum.attr
import subject
import torch
from torch import Tensor, nn

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.networks.device import choose_device

DIFFERENT = {
    "integrated_gradients": "ours: Rescale multipliers over steps of a ReLU network, exact sums; Captum: gradients",
    "occlusion": "ours: windows moved inside at the border; Captum: cut there, a mean over windows in both",
    "feature_ablation": "superpixels as features; Captum: a mask over pixels",
    "shapley_value_sampling": "superpixels as features; Captum: a mask over pixels",
}
SETTINGS: dict[str, dict] = {
    "integrated_gradients": {"n_steps": 16, "max_steps": 16},
    "gradient_shap": {"samples": 20},
    "shapley_value_sampling": {"permutations": 2},
}
METHODS = [
    *("saliency", "integrated_gradients", "occlusion", "guided_backprop", "deconvolution", "deep_lift"),
    *("deep_lift_shap", "gradient_shap", "feature_ablation", "shapley_value_sampling"),
]


def by_hand(method: str, network: nn.Module, patches: Tensor, settings: Any) -> Callable[[int], object]:
    """Captum on all patches with so many inputs through the network at once, as its documentation does it."""
    tools = captum.attr

    def in_parts(explainer: Any, size: int, *starts: Tensor, **options: object) -> None:
        for at in range(0, len(patches), size):
            part = slice(at, at + size)
            explainer.attribute(patches[part], *(values[part] for values in starts), **options)

    def one_by_one(explainer: Any, options: Callable[[int], dict]) -> None:
        for row in range(len(patches)):
            explainer.attribute(patches[row : row + 1], **options(row))

    if method == "saliency":
        return lambda size: in_parts(tools.Saliency(network), size, abs=False)
    if method in ("guided_backprop", "deconvolution"):
        kind = tools.GuidedBackprop if method == "guided_backprop" else tools.Deconvolution
        return lambda size: in_parts(kind(network), size)
    if method in ("deep_lift", "integrated_gradients"):
        starts = baseline(patches, settings.baseline)
        if method == "deep_lift":
            return lambda size: in_parts(tools.DeepLift(network), max(1, size // 2), starts)
        return lambda size: tools.IntegratedGradients(network).attribute(
            patches, starts, n_steps=settings.n_steps, internal_batch_size=size
        )
    if method in ("deep_lift_shap", "gradient_shap"):
        baselines = torch.stack([baseline(patches, kind) for kind in settings.baselines], 1)
        if method == "deep_lift_shap":
            return lambda _: one_by_one(tools.DeepLiftShap(network), lambda row: {"baselines": baselines[row]})
        samples = {"n_samples": settings.samples, "stdevs": settings.sigma}
        return lambda _: one_by_one(tools.GradientShap(network), lambda row: {"baselines": baselines[row], **samples})
    if method == "occlusion":
        window, stride = (3, settings.window, settings.window), (3, settings.stride, settings.stride)
        mean = baseline(patches, "mean").contiguous()
        return lambda size: tools.Occlusion(network).attribute(
            patches, window, stride, mean, perturbations_per_eval=max(1, size // len(patches))
        )
    labels = torch.from_numpy(subject.superpixels(patches, settings)["superpixels"]).to(patches.device)
    labels, off = labels.long()[:, None], baseline(patches, "mean").contiguous()  # the colour changes no time
    samples = {} if method == "feature_ablation" else {"n_samples": settings.permutations}
    kind = tools.FeatureAblation if method == "feature_ablation" else tools.ShapleyValueSampling

    def options(row: int, size: int) -> dict:
        at = slice(row, row + 1)
        return {"baselines": off[at], "feature_mask": labels[at], "perturbations_per_eval": size, **samples}

    return lambda size: one_by_one(kind(network), lambda row: options(row, size))


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="test_resnet", help="a key of `network` in params.yaml")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object, method to ratio")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    device = choose_device("auto")
    network, patches = subject.network(args.network, device), subject.patches(args.patches, device)
    score = make_score(network, torch.zeros(len(patches), device=device), "tumour", "logit")
    ratios = {}
    for method in args.methods:
        settings = subject.method_settings(method, **SETTINGS.get(method, {}))
        theirs, options = by_hand(method, network, patches, settings), subject.superpixels(patches, settings)
        given = (method, score, patches, range(len(patches)), settings)
        ours = partial(lambda given, options, size: subject.attribute(*given, size, options), given, options)
        size, size_of_ours = best_size(theirs, device), best_size(ours, device)
        pairs = [
            (seconds(partial(ours, size_of_ours), device), seconds(partial(theirs, size), device))
            for _ in range(args.repeats)
        ]
        ratios[method] = round(subject.median_ratio(pairs), 3)
        if not args.json:
            batch = f"batch {size_of_ours:2} and {size:2}"
            print(f"{method:24} {ratios[method]:6.3f}   {batch}   {DIFFERENT.get(method, '')}", flush=True)
    if args.json:
        print(json.dumps(ratios))
    else:
        print(f"{args.network} on {subject.machine(device)}")


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long the work takes: of the clock on a GPU, else of the processor, in all threads."""
    if device.type == "cuda":
        return subject.seconds(work, device)
    start = time.process_time()
    work()
    return time.process_time() - start


def best_size(work: Callable[[int], object], device: torch.device) -> int:
    """The batch size at which the work takes least, of powers of two from 8 to 64."""
    work(8)  # what is done once only
    return min((8, 16, 32, 64), key=lambda size: seconds(lambda: work(size), device))


if __name__ == "__main__":
    main()
