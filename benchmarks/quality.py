"""How soon a map of stated quality is there: ours, Captum's and the lime package's, on the same patches and network.

python benchmarks/quality.py --network resnet34 [--methods lime kernel_shap integrated_gradients] [--json]

LIME and KernelSHAP: the time until the masks (top quarter) of other samples have a mean IoU of 0.9 with each other.
Integrated gradients: until they have a mean IoU of 0.95 with those of 1,024 points. Each tool at the cheapest setting
that gets there; all share superpixels, fill, kernel, ridge, network and batch size. The network has its batch norms
folded for ours (`load_classifier`), as it was trained for the others; ours also runs in bf16 where that is faster. What
does not get there with MOST samples or steps says so.
"""

import contextlib
import io
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import combinations

import captum.attr
import numpy as np
import subject
import torch
from captum._utils.models.linear_model import SkLearnRidge
from lime.lime_image import LimeImageExplainer
from torch import Tensor, nn

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.score import Score, make_score
from pcam_agreement.attribution.common.superpixels import superpixels
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.networks.device import choose_device

WANTED = {"lime": 0.9, "kernel_shap": 0.9, "integrated_gradients": 0.95}
SEEDS = 3  # of samples, every pair of them compared: one pair on few patches is luck
FIRST = {"lime": 128, "kernel_shap": 128, "integrated_gradients": 4}  # samples, or steps, that the search begins with
MOST = {"lime": 16_384, "kernel_shap": 16_384, "integrated_gradients": 256}

# Makes maps [n, h, w] of all patches with this many samples (or steps) from this seed.
Tool = Callable[[int, int], np.ndarray]


def masks(maps: np.ndarray) -> np.ndarray:
    return top_mask(np.abs(maps).reshape(len(maps), -1), 0.25)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet34", help="a key of `network` in params.yaml")
    parser.add_argument("--methods", nargs="+", choices=list(WANTED), default=list(WANTED))
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = choose_device("auto")
    network, patches = subject.network(args.network, device), subject.patches(args.patches, device)
    zeros = torch.zeros(len(patches), device=device)
    score = make_score(network, zeros, "tumour", "logit")
    plain = subject.as_trained(args.network, device)
    reduced = make_score(subject.network(args.network, device, "bf16"), zeros, "tumour", "logit")
    results: dict[str, dict] = {}
    for method in args.methods:
        size, rate = subject.fastest(_work(score, patches, method), 256)
        tools = _path_tools if method == "integrated_gradients" else _surrogate_tools
        made = tools(method, score, plain, patches, size)
        if subject.fastest(_work(reduced, patches, method), 256)[1] > rate:  # not every processor computes in it
            made["ours, bf16"] = tools(method, reduced, plain, patches, size)["ours"]
        exact = masks(made["captum"](1024, 0)) if method == "integrated_gradients" else None
        results[method] = {}
        for name, tool in made.items():
            count = cheapest(tool, method, exact)
            if count is None:
                print(f"{method:22} {name:26} does not get there with {MOST[method]} a patch", file=sys.stderr)
                continue
            spent = min(subject.seconds(lambda: tool(count, 2), device) for _ in range(2))  # noqa: B023
            results[method][name] = {"passes": count, "seconds": round(spent, 3)}
            if not args.json:
                print(f"{method:22} {name:26} {count:6} a patch, {spent:7.2f} s", flush=True)
        others = [found["seconds"] for name, found in results[method].items() if not name.startswith("ours")]
        for name, found in results[method].items():
            if name.startswith("ours") and others:
                found["over_faster"] = round(found["seconds"] / min(others), 3)
                if not args.json:
                    print(f"{method:22} {name} over the faster of the others: {found['over_faster']}", flush=True)
    if args.json:
        print(json.dumps(results))
    else:
        print(f"{args.network}, {len(patches)} patches, {subject.machine(device)}")


def cheapest(tool: Tool, method: str, exact: np.ndarray | None) -> int | None:
    """How many samples or steps it takes until the masks are as good as wanted; None where MOST are not enough.

    Doubled until they are; between the last two 1 - IoU is taken for a power of the number, which few patches and
    seeds disturb less than a search would be.
    """

    def error(count: int) -> float:
        if exact is not None:
            return 1 - float(overlap(masks(tool(count, 0)), exact).mean())
        found = [masks(tool(count, seed)) for seed in range(SEEDS)]
        return 1 - float(np.mean([overlap(a, b).mean() for a, b in combinations(found, 2)]))

    wanted, count = 1 - WANTED[method], FIRST[method]
    before, now = 1.0, error(count)
    while now > wanted:
        count *= 2
        if count > MOST[method]:
            return None
        before, now = now, error(count)
    power = max(np.log2(before / max(now, 1e-9)), 1e-3)
    needed = count * (now / wanted) ** (1 / power)
    return round(needed) if exact is not None else max(2, round(needed / 2) * 2)  # samples come in pairs


def _work(score: Score, patches: Tensor, method: str) -> Callable[[int], object]:
    def work(size: int) -> None:
        inputs, rows = patches[:1].expand(size, -1, -1, -1), torch.zeros(size, dtype=torch.int64, device=patches.device)
        if method == "integrated_gradients":
            gradient(score, inputs, rows)
        else:
            with torch.no_grad():
                score(inputs, rows)

    return work


def _path_tools(method: str, score: Score, network: nn.Module, patches: Tensor, size: int) -> dict[str, Tool]:
    def ours(count: int, seed: int) -> np.ndarray:
        change = {"rule": "auto", "n_steps": count, "max_steps": count}
        chosen = subject.method_settings("integrated_gradients", **change)
        return subject.attribute(method, score, patches, range(len(patches)), chosen, size)[0].sum(1).cpu().numpy()

    def captums(count: int, seed: int) -> np.ndarray:
        found = captum.attr.IntegratedGradients(network).attribute(
            patches, torch.ones_like(patches), n_steps=count, method="gausslegendre", internal_batch_size=size
        )
        return found.sum(1).detach().cpu().numpy()

    return {"ours": ours, "captum": captums}


def _surrogate_tools(method: str, score: Score, network: nn.Module, patches: Tensor, size: int) -> dict[str, Tool]:
    device = patches.device
    pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
    settings = subject.method_settings(method)

    def segment(patch: np.ndarray) -> np.ndarray:
        return superpixels(patch, settings.superpixels, settings.segments)

    def ours(count: int, seed: int, **change: object) -> np.ndarray:
        chosen = settings.model_copy(update={"samples": count, "max_samples": count, **change})
        seeds = [1000 * seed + row for row in range(len(patches))]
        return subject.attribute(method, score, patches, seeds, chosen, size)[0].sum(1).cpu().numpy()

    def without_interactions(count: int, seed: int) -> np.ndarray:
        return ours(count, seed, sampling="orthogonal", interactions=True)

    def captums(count: int, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        np.random.seed(seed)
        if method == "lime":
            explainer = captum.attr.Lime(
                network, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=_similarity
            )
        else:
            explainer = captum.attr.KernelShap(network)
        maps = []
        for row, patch in enumerate(patches):
            labels = torch.from_numpy(segment(pixels[row])).to(device)
            found = explainer.attribute(
                patch[None],
                _filled(patch, labels)[None],
                feature_mask=labels[None, None],
                n_samples=count,
                perturbations_per_eval=size,
            )
            maps.append(found[0, 0].detach().cpu().numpy())
        return np.stack(maps)

    def package(count: int, seed: int) -> np.ndarray:
        explainer = LimeImageExplainer(kernel_width=settings.kernel_width, random_state=seed)

        def classify(images: np.ndarray) -> np.ndarray:
            inputs = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
            with torch.no_grad():
                return network(inputs)[:, None].cpu().numpy()

        maps = []
        for patch in pixels:
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bars cannot be turned off
                found = explainer.explain_instance(
                    patch.astype(np.float64),
                    classify,
                    labels=(0,),
                    top_labels=None,
                    num_features=10_000,
                    num_samples=count,
                    batch_size=size,
                    segmentation_fn=segment,
                )
            weights = dict(found.local_exp[0])
            maps.append(np.vectorize(weights.get, otypes=[float])(found.segments))
        return np.stack(maps)

    tools: dict[str, Tool] = {"ours": ours, "captum": captums}
    lime = {"ours, without interactions": without_interactions, "lime": package}
    return {**tools, **lime} if method == "lime" else tools


def _similarity(original: Tensor, perturbed: Tensor, z: Tensor, **_: object) -> Tensor:
    """The lime package's kernel: of the cosine distance of the sample to all ones."""
    distance = 1 - z.float().mean().sqrt()
    return torch.exp(-(distance**2) / 0.25**2).sqrt()


def _filled(patch: Tensor, labels: Tensor) -> Tensor:
    """The patch with every superpixel in its mean colour."""
    sums = torch.zeros(3, int(labels.max()) + 1, device=patch.device).index_add_(1, labels.flatten(), patch.flatten(1))
    return (sums / labels.flatten().bincount())[:, labels.flatten()].view_as(patch)


if __name__ == "__main__":
    main()
