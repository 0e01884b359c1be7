"""How much a method costs beyond its passes through the network.

python benchmarks/explain.py --network resnet34 [--json]

For every method: its time over the time of the same number of raw passes (forward, or forward and backward to the
pixels) at the best batch size, in the same process, precision and memory layout; the median of interleaved repeats.
"""

import json
from argparse import ArgumentParser

import subject
import torch
from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.score import Score, make_score
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.device import choose_device

# Enough work to be timed, at settings that people use.
SETTINGS: dict[str, dict] = {
    "smoothgrad": {"samples": 50},
    "integrated_gradients": {"n_steps": 20, "max_steps": 20},
    "lime": {"samples": 300, "max_samples": 300},
    "kernel_shap": {"samples": 300, "max_samples": 300},
}
PATCHES = {
    **{"saliency": 256, "input_x_gradient": 256, "grad_cam": 256, "integrated_gradients": 16, "smoothgrad": 8},
    **{"guided_backprop": 256, "deconvolution": 256, "deep_lift": 128, "deep_lift_shap": 64},
}


class Counted(torch.nn.Module):
    """A network that counts its inputs, with and without a gradient to the pixels (always: as if all had one)."""

    def __init__(self, network: Classifier, always: bool) -> None:
        super().__init__()
        self.network, self.backbone = network, network.backbone
        self.architecture, self.head, self.size = network.architecture, network.head, network.size
        self.with_gradient = self.without = 0
        self.always = always
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.requires_grad or self.always:
            self.with_gradient += inputs.shape[0]
        else:
            self.without += inputs.shape[0]
        return self.network(inputs)


def raw_passes(score: Score, counted: Counted, patches: Tensor, sizes: dict[str, int]) -> None:
    """As many passes as were counted, on inputs that are there."""
    for gradients, count in ((True, counted.with_gradient), (False, counted.without)):
        size = sizes["gradient" if gradients else "forward"]
        inputs = patches.repeat(-(-size // len(patches)), 1, 1, 1)[:size].contiguous()
        for start in range(0, count, size):
            part = inputs[: min(size, count - start)]
            rows = torch.zeros(len(part), dtype=torch.int64, device=part.device)
            if gradients:
                gradient(score, part, rows)
            else:
                with torch.no_grad():
                    score(part, rows)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet34", help="a key of `network` in params.yaml")
    parser.add_argument("--methods", nargs="+", default=subject.METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object, method to ratio")
    args = parser.parse_args()
    device = choose_device("auto")
    network = subject.network(args.network, device)
    many = subject.patches(256, device)
    one = make_score(network, torch.zeros(len(many), device=device), "tumour", "logit")
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    with torch.no_grad():
        forward = subject.fastest(lambda size: one(many[:1].expand(size, -1, -1, -1), zero.expand(size)), 256)[0]
    sizes = {
        "forward": forward,
        "gradient": subject.fastest(
            lambda size: gradient(one, many[:1].expand(size, -1, -1, -1), zero.expand(size)), 256
        )[0],
    }
    ratios = {}
    for method in args.methods:
        patches = many[: PATCHES.get(method, 4) * (8 if device.type == "cuda" else 1)]
        chosen = subject.method_settings(method, **SETTINGS.get(method, {}))
        rows, seeds = torch.zeros(len(patches), device=device), list(range(len(patches)))
        counted = Counted(network, always=method == "grad_cam")
        probe = make_score(counted, rows, "tumour", "logit")
        size = sizes["forward" if method in (*subject.FORWARD, "grad_cam") else "gradient"]
        subject.attribute(method, probe, patches, seeds, chosen, size)
        pairs = []
        for _ in range(args.repeats):
            spent = subject.seconds(lambda: subject.attribute(method, one, patches, seeds, chosen, size), device)  # noqa: B023
            raw = subject.seconds(lambda: raw_passes(one, counted, patches, sizes), device)  # noqa: B023
            pairs.append((spent, raw))
        ratios[method] = round(subject.median_ratio(pairs), 3)
        if not args.json:
            passes = f"{counted.with_gradient + counted.without:7} passes"
            print(f"{method:22} {ratios[method]:6.3f}   {passes} of {len(patches)} patches, batch {size}", flush=True)
    if args.json:
        print(json.dumps(ratios))
    else:
        print(f"{args.network} on {subject.machine(device)}")


if __name__ == "__main__":
    main()
