"""Captum's methods (Kokhlikyan et al. 2020, arXiv 2009.07896) on a score: their batches, seeds and hooks.

A method is named by its class in captum.attr, which is imported where a method of Captum runs and nowhere else.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from pcam_agreement.attribution.common.gradient import convergence_delta
from pcam_agreement.attribution.common.rescale import is_affine
from pcam_agreement.attribution.common.score import Score, make_score
from pcam_agreement.attribution.common.superpixels import superpixel_scores
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.batch import Batch

# By the name of the function: the module that stands for a call of it, of its arguments but the first.
ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,  # in place where the network's is: Captum gives it a copy
    "relu_": lambda: nn.ReLU(inplace=True),
    "sigmoid": nn.Sigmoid,
    "max_pool2d": nn.MaxPool2d,
}
# What a pass calls, of each network and kind of score: its activations, and the first function without a rule.
LISTED: WeakKeyDictionary[nn.Module, dict[str, tuple[nn.ModuleList, str | None]]] = WeakKeyDictionary()
OTHERS = "saliency, integrated_gradients, gradient_shap, feature_ablation or shapley_value_sampling"  # for any network


def check_relus(network: nn.Module) -> None:
    """Raise ValueError where a network has no ReLU, which GuidedBackprop and Deconvolution need."""
    _with_relus(*_blank(network))


def check_rules(network: nn.Module) -> None:
    """Raise ValueError where a network computes what DeepLift has no rule for."""
    _with_rules(*_blank(network))


def modified_gradient(method: str, score: Score, patches: Tensor, batch: Batch) -> Tensor:
    """By GuidedBackprop or Deconvolution, which change the gradient of every ReLU: [n, 3, h, w].

    Raises ValueError where the network has no ReLU: nothing would be changed.
    """
    network = _with_relus(score, patches[:1])
    explainer = _class(method)(network)
    result = torch.zeros_like(patches)

    def work(rows: Tensor) -> None:
        with _without_notice_of_hooks():
            result[rows] = explainer.attribute(patches[rows].requires_grad_(), additional_forward_args=rows)

    batch.each(len(patches), patches.device, work)
    return result


def deep_lift(
    score: Score, patches: Tensor, baselines: Sequence[Tensor], batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """By DeepLift's Rescale rule, the mean over baselines [n, 3, h, w] of the patches: [n, 3, h, w].

    Diagnostics: convergence_delta. With max-pooling the attributions do not add up in Captum 0.9: behind a ReLU it
    takes the gradient of the pooling, and elsewhere, of overlapping windows with the same maximum, counts one alone.

    Raises ValueError where the network computes what Captum has no rule for, and would take the gradient of.
    """
    network = _with_rules(score, patches[:1])
    explainer = _class("DeepLift")(network)
    count = len(baselines)
    result, change = torch.zeros_like(patches), patches.new_zeros(len(patches))

    def work(numbers: Tensor) -> None:
        rows, kinds = numbers // count, numbers % count
        starts = torch.stack([baselines[kind][row] for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True)])
        with _without_notice_of_hooks():
            maps = explainer.attribute(patches[rows].requires_grad_(), starts, additional_forward_args=rows).detach()
        if len(numbers) > 1 and not maps[0].isfinite().all():
            # Where the input of a max-pooling does not change, Captum takes the gradient of the batch's first patch.
            for number in numbers:
                work(number[None])
        else:
            at, before = network.scores.chunk(2)
            result.index_add_(0, rows, maps / count)
            change.index_add_(0, rows, (at - before) / count)

    batch.each(len(patches) * count, patches.device, work, inputs=2)
    return result, {"convergence_delta": convergence_delta(result, change)}


def of_samples(
    method: str, score: Score, patches: Tensor, seeds: Sequence[int], batch: Batch, options: Callable[[int], dict]
) -> Tensor:
    """By a method that takes gradients of the score at random inputs: [n, 3, h, w].

    options: further arguments for the patch of a row. A patch at a time, so that samples depend on its seed alone.
    """
    result = torch.zeros_like(patches)
    for row, seed in enumerate(seeds):
        explainer = _class(method)(_Forward(score, row, batch))
        with _seeded(seed, patches.device):
            result[row] = explainer.attribute(patches[row : row + 1], **options(row))[0]
    return result


def of_superpixels(
    method: str,
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    batch: Batch,
    superpixels: np.ndarray,
    **options: object,
) -> tuple[Tensor, dict[str, Tensor]]:
    """By a method that switches features on and off, here superpixels (off: their mean colour): [n, 1, h, w].

    superpixels: labels [n, h, w]; options: further arguments. Diagnostics: superpixels, how many there are. Captum is
    given the superpixels themselves as 0 or 1, not the pixels with a mask, over which it would loop in Python.
    """
    labels = torch.from_numpy(superpixels.astype(np.int64)).to(patches.device)
    counts = labels.flatten(1).amax(1) + 1
    result = torch.zeros_like(patches[:, :1])

    def explain(row: int, count: int) -> Tensor:
        rows = torch.tensor([row], device=patches.device)

        def scores(z: Tensor) -> Tensor:
            return superpixel_scores(score, patches, rows, labels, z[None], batch)[0]

        whole = patches.new_ones(1, count)
        return _class(method)(scores).attribute(whole, perturbations_per_eval=count, **options)[0]

    for row, (seed, count) in enumerate(zip(seeds, counts.tolist(), strict=True)):
        with _seeded(seed, patches.device):
            result[row, 0] = explain(row, count).to(result.dtype)[labels[row]]
    return result, {"superpixels": counts}


def _blank(network: nn.Module) -> tuple[Score, Tensor]:
    patch = torch.zeros(1, 3, PATCH, PATCH)
    return make_score(network, patch.new_zeros(1), "tumour", "logit"), patch


def _with_relus(score: Score, patch: Tensor) -> "_Hooked":
    hooked = _Hooked(score, patch)
    if not any(isinstance(module, nn.ReLU) for module in hooked.activations):
        raise ValueError(
            f"Captum's GuidedBackprop and Deconvolution cannot explain {score.network.architecture}, which has no ReLU "
            f"whose gradient they could change; use {OTHERS}."
        )
    return hooked


def _with_rules(score: Score, patch: Tensor) -> "_Hooked":
    hooked = _Hooked(score, patch)
    if hooked.without_rule:
        raise ValueError(
            f"Captum's DeepLift cannot explain {score.network.architecture}, which computes {hooked.without_rule}, "
            f"for which it has no rule; use {OTHERS}."
        )
    return hooked


def _class(method: str) -> Any:
    return getattr(import_module("captum.attr"), method)


class _Hooked(nn.Module):
    """A score for Captum's hooks: every ReLU, sigmoid and max-pooling of a pass is a module of its own.

    The hooks need that. A network may call a function in place of a module, or one module several times. `activations`
    are the modules of a pass, in order; `without_rule` names the first function, if any, that is neither one of these
    nor affine; `scores` are those of the last pass.
    """

    def __init__(self, score: Score, patch: Tensor) -> None:
        super().__init__()
        self.scores = torch.empty(0)
        self.score = score  # no module: its network's own modules are not hooked
        listed = LISTED.setdefault(score.network, {})
        if score.output not in listed:  # a pass of a single patch takes a third of the time of one of eight
            row = torch.zeros(1, dtype=torch.int64, device=patch.device)
            patch = patch.clone().requires_grad_()  # a product of two that depend on it shows by their gradients
            with torch.enable_grad(), _Listing() as listing:
                score(patch, row)
            listed[score.output] = nn.ModuleList(listing.activations), listing.without_rule
        self.activations, self.without_rule = listed[score.output]
        self.eval()

    def forward(self, inputs: Tensor, rows: Tensor) -> Tensor:
        with _Replacing(self.activations):
            scores = self.score(inputs, rows)
        self.scores = scores.detach()
        return scores


class _Listing(TorchFunctionMode):
    """While it is on, calls of activations are listed as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.activations: list[nn.Module] = []
        self.without_rule: str | None = None

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in ACTIVATIONS:
            self.activations.append(ACTIVATIONS[name](*args[1:], **kwargs))
        elif not is_affine(name, args):
            self.without_rule = self.without_rule or name
        return func(*args, **kwargs)


class _Replacing(TorchFunctionMode):
    """While it is on, each call of an activation is of the next of these modules."""

    def __init__(self, activations: nn.ModuleList) -> None:
        super().__init__()
        self.coming = iter(activations)

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return next(self.coming)(args[0]) if func.__name__ in ACTIVATIONS else func(*args, **kwargs or {})


class _Forward:
    """Scores of inputs that were made from the patch of one row, however many, in batches of the right size."""

    def __init__(self, score: Score, row: int, batch: Batch) -> None:
        self.score, self.row, self.batch = score, row, batch

    def __call__(self, inputs: Tensor) -> Tensor:
        return _ScoresAndGradients.apply(inputs, self.score, self.row, self.batch)


class _ScoresAndGradients(Function):
    """Scores with their gradients, which are taken batch by batch: no graph of all inputs is kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, score: Score, row: int, batch: Batch) -> Tensor:
        scores, gradients = inputs.new_zeros(len(inputs)), torch.zeros_like(inputs)

        def work(numbers: Tensor) -> None:
            with torch.enable_grad():
                leaf = inputs[numbers].detach().requires_grad_()
                values = score(leaf, torch.full_like(numbers, row))
                gradient = torch.autograd.grad(values.sum(), leaf)[0]
            scores[numbers], gradients[numbers] = values.detach(), gradient

        batch.each(len(inputs), inputs.device, work)
        ctx.save_for_backward(gradients)
        return scores

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        return gradients * above.view(-1, 1, 1, 1), None, None, None


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Captum takes random numbers from the global generators of torch and numpy: from this seed, and put back after."""
    before = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed([seed >> 32, seed & 0xFFFFFFFF])
        try:
            yield
        finally:
            np.random.set_state(before)


@contextmanager
def _without_notice_of_hooks() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks")
        yield
