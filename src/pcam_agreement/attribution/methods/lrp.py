"""Layer-wise relevance propagation, the composite of epsilon, z-plus and flat rules (Bach et al. 2015, journal PLOS ONE
10(7); the composite: Kohlbrenner et al. 2020, arXiv 1910.09840; as zennit has it: Anders et al. 2021, 2106.13200)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.relevance import (
    NoRuleError,
    Rule,
    backward,
    check_rules,
    is_signal,
    keep,
    positive,
    relevance,
    through,
    times,
)
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "LRP"
DESCRIPTION = "the pixel's share of the logit, handed back layer by layer in proportion to what each unit contributed"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]

EPSILON = 1e-6  # zennit's; it only keeps from dividing by 0


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def check_network(network: Any) -> None:
    """Raise ValueError where a network has layers without a rule, as attention and layer norms have none."""
    check_rules(network, RULES)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The relevance of each pixel, [n, 3, 96, 96]; with biases it does not add up to the logit.

    Raises ValueError where the network has layers without a rule.
    """
    return relevance(score, patches, batch, RULES, lambda logits: logits), {}


def over(values: Tensor) -> Tensor:
    """The same values; relevance that passes backward is divided by them."""
    divisor = values.detach()
    divisor = torch.where(divisor < 0, divisor - EPSILON, divisor + EPSILON)
    return backward(values, lambda above: above / divisor)


def epsilon(func: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """In proportion to what each input contributes to the output; constants (a bias) keep what they contribute."""
    return over(func(*(times(value) if is_signal(value) else value for value in args), **kwargs))


def z_plus(
    func: Callable, inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """In proportion to what each input contributes, if that is positive."""
    func = partial(func, **kwargs)
    return through(func(inputs, weight, bias, *args), over(positive(func, times(inputs), weight, bias, *args)))


def flat(
    func: Callable, inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """The same for all inputs that the output sees."""
    func, ones = partial(func, **kwargs), torch.ones_like(weight)
    way = func(inputs, ones, None, *args) / func(torch.ones_like(inputs.detach()), ones, None, *args)
    return through(func(inputs, weight, bias, *args), way)


def sum_of(func: Callable, first: Any, second: Any, **kwargs: Any) -> Tensor:
    """A sum divides relevance among its two signals; a constant takes none."""
    rule = epsilon if is_signal(first) and is_signal(second) else keep
    return rule(func, first, second, **kwargs)


def product(func: Callable, first: Any, second: Any, **kwargs: Any) -> Tensor:
    """All to the signal, none to the gate (Arras et al. 2017, arXiv 1706.07206), which has one value a channel."""
    if is_signal(first) and is_signal(second):
        if first.shape == second.shape or "div" in func.__name__:
            raise NoRuleError("the product or ratio of two maps")
        return through(func(first, second, **kwargs), max(first, second, key=Tensor.numel))
    return keep(func, first, second, **kwargs)


# fmt: off
ACTIVATIONS = (
    "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "relu6", "sigmoid", "silu",
    "tanh",
)
# fmt: on
RULES: dict[str, Rule] = {
    "first": flat,
    "conv2d": z_plus,
    "linear": epsilon,
    **dict.fromkeys((*ACTIVATIONS, "batch_norm"), keep),
    **dict.fromkeys(("adaptive_avg_pool2d", "avg_pool2d", "mean", "sum"), epsilon),
    **dict.fromkeys(("add", "sub"), sum_of),
    **dict.fromkeys(("mul", "div"), product),
}
