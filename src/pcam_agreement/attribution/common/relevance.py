"""Layer-wise relevance propagation (Bach et al. 2015): rules that take the place of gradients, function by function.

A rule is called in place of a function of torch and gives the same value with another gradient. It is known by the
function's name, whatever block or library calls it, so that a network needs no canonical form. What passes backward is
relevance itself (lrp), or relevance over the value, of which the gradient is LRP-0 (attn_lrp); either becomes relevance
at the input of the first layer. Up to there, resizing is a sum of pixels with weights that add up to 1, whose gradient
hands relevance back by these weights, and normalising keeps it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pcam_agreement.attribution.common.score import Score, make_score
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.batch import Batch

Rule = Callable[..., Any]  # the function, then its arguments -> the function's value, with another gradient
# By name, what only moves values, or takes the largest: relevance goes back where its value came from.
# fmt: off
MOVES = {
    "__get__", "__getitem__", "cat", "chunk", "clone", "contiguous", "dropout", "expand", "flatten", "interpolate",
    "max_pool2d", "pad", "permute", "reshape", "roll", "split", "squeeze", "stack", "to", "transpose", "type_as",
    "unbind", "unflatten", "unsqueeze", "view",
}
# fmt: on
LAYERS, SCALES = ("conv2d", "linear"), ("add", "div", "mul", "sub")


class NoRuleError(Exception):
    """The network computes something that has no rule."""


def relevance(
    score: Score, patches: Tensor, batch: Batch, rules: Mapping[str, Rule], start: Callable[[Tensor], Tensor]
) -> Tensor:
    """The relevance of the pixels for the logit of the explained class, [n, 3, h, w].

    It is of the logit also where the score is its probability, which ranks pixels alike. rules: by the names of
    functions; `first` is for the first layer. start: from logits [b], what passes backward first.

    Raises ValueError where the network computes something that has no rule.
    """
    score, result = replace(score, output="logit"), torch.zeros_like(patches)

    def work(rows: Tensor) -> None:
        inputs = patches[rows].detach().requires_grad_(True)
        with torch.enable_grad():
            try:
                with _Rules(rules) as mode:
                    logits = score(inputs, rows)
                if mode.before_first:
                    raise NoRuleError("neither convolutions nor linear layers")
            except NoRuleError as error:
                raise ValueError(
                    f"Relevance propagation cannot explain {score.network.architecture} by these rules, which have "
                    f"none for what it computes: {error}; use lrp for a convolutional network, attn_lrp for a "
                    "transformer, or saliency or integrated_gradients for any."
                ) from None
            result[rows] = torch.autograd.grad(logits, inputs, start(logits.detach()))[0]

    batch.each(len(patches), patches.device, work)
    return result


def check_rules(network: Any, rules: Mapping[str, Rule]) -> None:
    """Raise ValueError where the network computes something that has no rule."""
    patch = torch.zeros(1, 3, PATCH, PATCH)
    relevance(make_score(network, patch.new_zeros(1), "tumour", "logit"), patch, Batch(1), rules, torch.ones_like)


def is_signal(value: object) -> bool:
    """Whether this depends on the pixels, which alone have a gradient: a network's parameters are frozen."""
    return isinstance(value, Tensor) and value.requires_grad


def through(value: Tensor, way: Tensor) -> Tensor:
    """This value, whose gradient goes the other way."""
    return value.detach() + (way - way.detach())


def backward(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The same values; what passes backward through them is changed."""
    values = values.clone()
    values.register_hook(change)
    return values


def times(values: Tensor) -> Tensor:
    """The same values; what passes backward is multiplied by them: relevance over the value becomes relevance."""
    factor = values.detach()
    return backward(values, lambda above: above * factor)


def keep(func: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """The rule of what has one signal, and keeps its shape: all relevance is kept."""
    return through(func(*args, **kwargs), next(value for value in args if is_signal(value)))


def positive(func: Callable, inputs: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
    """The positive contributions to a layer's output: a positive bias, and inputs times weights of their sign."""
    bias = None if bias is None else bias.clamp(min=0)
    output = func(inputs.clamp(min=0), weight.clamp(min=0), bias, *args)
    if (inputs < 0).any():  # not behind a ReLU
        output = output + func(inputs.clamp(max=0), weight.clamp(max=0), None, *args)
    return output


class _Rules(TorchFunctionMode):
    """While it is on, functions of what depends on the pixels have rules in place of gradients."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.rules, self.before_first = rules, True

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name.endswith("_") and not name.startswith("__"):  # in place
            name = name.removesuffix("_")
        rule = self.rules.get(name)
        if self.before_first:
            if name in LAYERS:
                rule, self.before_first = self.rules["first"], False
            elif name in SCALES:
                rule = keep
        signals = [value for value in args if is_signal(value)]
        if rule is not None and signals:
            if any(is_signal(value) for value in kwargs.values()) or (name in LAYERS and len(signals) > 1):
                raise NoRuleError(f"{name} of other arguments than expected")
            if name not in LAYERS:
                args = (args[0].clone() if is_signal(args[0]) else args[0], *args[1:])  # it may be written into
            return rule(func, *args, **kwargs)
        output = func(*args, **kwargs)
        if name not in MOVES and any(map(is_signal, output if isinstance(output, tuple) else (output,))):
            raise NoRuleError(name)
        return output
