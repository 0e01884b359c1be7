"""How many hours all explanations of a profile take on this device, from rates measured on a few patches.

python benchmarks/grid.py [--profile profiles/full.yaml] [--patches 64] [--networks …] [--methods …]
    [--precision 32] [--json]

Every network of the profile by every method, with the profile's settings and tolerances, on its checkpoint in data/ or,
where there is none, untrained (how many nodes and draws a map needs then is another network's answer: said on stderr).
Superpixels are made once for all networks, on the processor and while the network works; theirs is a line of its own.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import subject
import torch
from ruamel.yaml import YAML
from torch import Tensor

from pcam_agreement import networks, params, profile
from pcam_agreement.attribution.batches import Batch, fastest
from pcam_agreement.attribution.gradient import gradient
from pcam_agreement.attribution.score import make_score
from pcam_agreement.attribution.superpixels import superpixels_of_all
from pcam_agreement.explaining import explain_patches
from pcam_agreement.params import Params, Surrogate
from pcam_agreement.pcam import PATCH


def settings_of(path: Path) -> Params:
    """params.yaml with the profile laid over it."""
    yaml = YAML(typ="safe", pure=True)
    return params.check(profile.laid_over(yaml.load(Path("params.yaml")), yaml.load(path)), str(path))


def batch_size(network: networks.Classifier, kind: str, device: torch.device) -> int:
    """The fastest, for passes forward or to the gradient."""
    patch = torch.rand(1, 3, PATCH, PATCH, device=device)
    score = make_score(network, torch.zeros(1, device=device), "tumour", "logit")

    def work(size: int) -> None:
        inputs, rows = patch.expand(size, -1, -1, -1), torch.zeros(size, dtype=torch.int64, device=device)
        with torch.no_grad():
            score(inputs, rows) if kind == "forward" else gradient(score, inputs, rows)

    return fastest(work)[0]


def rate(network: networks.Classifier, method: str, settings: Params, patches: Tensor, size: int) -> float:
    """Patches a second, superpixels not included."""
    own, labels = getattr(settings.method, method), None
    if isinstance(own, Surrogate):
        labels = superpixels_of_all(patches.permute(0, 2, 3, 1).cpu().numpy(), own.superpixels, own.segments)

    def explain(count: int) -> None:
        few = None if labels is None else labels[:count]
        seeds = list(range(count))
        explain_patches(network, patches[:count], seeds, method, own, settings.explain, Batch(size), few)

    explain(1)  # what is done once only
    return len(patches) / subject.seconds(lambda: explain(len(patches)), patches.device)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, default=Path("profiles/full.yaml"))
    parser.add_argument("--patches", type=int, default=64, help="to measure on")
    parser.add_argument("--networks", nargs="+", help="some of the profile's")
    parser.add_argument("--methods", nargs="+", help="some of the profile's")
    parser.add_argument("--precision", default="32", choices=list(networks.PRECISION))
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    device, settings = networks.device("auto"), settings_of(args.profile)
    patches, count = subject.patches(args.patches, device), settings.explain.patches
    rates: dict[str, dict[str, float]] = {}
    for name in args.networks or settings.networks:
        network = subject.network(name, device, args.precision)
        sizes = {kind: batch_size(network, kind, device) for kind in ("forward", "gradient")}
        rates[name] = {}
        for method in args.methods or settings.methods:
            size = sizes["forward" if method in ("occlusion", "lime", "kernel_shap") else "gradient"]
            rates[name][method] = round(rate(network, method, settings, patches, size), 2)
            if not args.json:
                print(f"{name:22} {method:22} {rates[name][method]:9.2f} patches a second", flush=True)
    seconds = sum(count / one for row in rates.values() for one in row.values())
    lime, pixels = settings.method.lime, patches.permute(0, 2, 3, 1).cpu().numpy()
    drawn = subject.seconds(lambda: superpixels_of_all(pixels, lime.superpixels, lime.segments), device) / len(patches)
    hours, superpixel_hours = round(seconds / 3600, 2), round(drawn * count / 3600, 2)
    if args.json:
        print(json.dumps({"hours": hours, "superpixel_hours": superpixel_hours, "patches_per_second": rates}))
    else:
        maps = sum(map(len, rates.values()))
        print(f"{maps} sets of {count} heatmaps: {hours} hours on {subject.machine(device)}, {args.precision} bits")
        print(f"superpixels of {count} patches, once and beside it: {superpixel_hours} hours")


if __name__ == "__main__":
    main()
