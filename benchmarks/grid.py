"""How many hours all explanations of a profile take on this device, from rates measured on a few patches.

python benchmarks/grid.py [--profile profiles/full.yaml] [--patches 64] [--recipes …] [--methods …]
    [--precision 32] [--json]

Every network of the profile by every method, with the profile's settings and tolerances, on its checkpoint in data/ or,
where there is none, untrained (the steps and samples that a map needs then are another network's: said on stderr).
Superpixels are made once for all networks, on the processor and while the network works; theirs is a line of its own.
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import subject
import torch
from ruamel.yaml import YAML
from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.settings import Superpixels
from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.attribution.explain import Explainer
from pcam_agreement.core import plugins
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import PRECISION
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.device import choose_device
from pcam_agreement.pipeline import profile
from pcam_agreement.pipeline.params import Params, check_params


def settings_of(path: Path) -> Params:
    """params.yaml with the profile laid over it."""
    yaml = YAML(typ="safe", pure=True)
    return check_params(profile.laid_over(yaml.load(Path("params.yaml")), yaml.load(path)), str(path))


def batch_size(network: Classifier, kind: str, device: torch.device) -> int:
    """The fastest, for passes forward or to the gradient."""
    patch = torch.rand(1, 3, PATCH, PATCH, device=device)
    score = make_score(network, torch.zeros(1, device=device), "tumour", "logit")

    def work(size: int) -> None:
        inputs, rows = patch.expand(size, -1, -1, -1), torch.zeros(size, dtype=torch.int64, device=device)
        with torch.no_grad():
            score(inputs, rows) if kind == "forward" else gradient(score, inputs, rows)

    return subject.fastest(work)[0]


def rate(network: Classifier, method: str, settings: Params, patches: Tensor, size: int) -> float:
    """Patches a second, superpixels not included."""
    chosen = subject.method_settings(method, {"method": settings.method})
    superpixels = None
    if isinstance(chosen, Superpixels):
        pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
        superpixels = superpixels_of_all(pixels, chosen.superpixels, chosen.segments)
    explainer = Explainer(
        network, plugins.load(plugins.METHODS, "method", method), chosen, settings.explain, Batch(size)
    )

    def explain(count: int) -> None:
        explainer.heatmaps(patches[:count], range(count), None if superpixels is None else superpixels[:count])

    explain(len(patches))  # what is done once only, for these sizes of batches too
    return len(patches) / subject.seconds(lambda: explain(len(patches)), patches.device)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, default=Path("profiles/full.yaml"))
    parser.add_argument("--patches", type=int, default=64, help="to measure on")
    parser.add_argument("--recipes", nargs="+", help="some of the profile's")
    parser.add_argument("--methods", nargs="+", help="some of the profile's")
    parser.add_argument("--precision", default="32", choices=list(PRECISION))
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    device, settings = choose_device("auto"), settings_of(args.profile)
    patches, count = subject.patches(args.patches, device), settings.explain.patches
    rates: dict[str, dict[str, float]] = {}
    for name in args.recipes or settings.recipes:
        network = subject.network(name, device, args.precision)
        sizes = {kind: batch_size(network, kind, device) for kind in ("forward", "gradient")}
        rates[name] = {}
        for method in args.methods or settings.methods:
            size = sizes["forward" if method in subject.FORWARD else "gradient"]
            rates[name][method] = round(rate(network, method, settings, patches, size), 2)
            if not args.json:
                print(f"{name:22} {method:22} {rates[name][method]:9.2f} patches a second", flush=True)
    trainings = len(settings.trainings)
    seconds = trainings * sum(count / one for row in rates.values() for one in row.values())
    lime = subject.method_settings("lime", {"method": settings.method})
    pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
    drawn = subject.seconds(lambda: superpixels_of_all(pixels, lime.superpixels, lime.segments), device) / len(patches)
    hours, superpixel_hours = round(seconds / 3600, 2), round(drawn * count / 3600, 2)
    if args.json:
        print(json.dumps({"hours": hours, "superpixel_hours": superpixel_hours, "patches_per_second": rates}))
    else:
        maps = trainings * sum(map(len, rates.values()))
        print(f"{maps} sets of {count} heatmaps: {hours} hours on {subject.machine(device)}, {args.precision} bits")
        print(f"superpixels of {count} patches, once and beside it: {superpixel_hours} hours")


if __name__ == "__main__":
    main()
