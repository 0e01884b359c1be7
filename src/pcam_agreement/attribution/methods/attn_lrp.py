"""AttnLRP: relevance propagation through attention (Achtibat et al. 2024, arXiv 2402.05602).

All of it is a gradient: by LRP-0, relevance is a value times what passes backward, and so it is by the paper's rule for
softmax (proposition 3.1). Three kinds of functions have another gradient than their own: activations, norms, products.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.relevance import (
    NoRuleError,
    Rule,
    backward,
    check_rules,
    is_signal,
    positive,
    relevance,
    through,
    times,
)
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.core.settings import Level
from pcam_agreement.inference.batch import Batch

TITLE = "AttnLRP"
DESCRIPTION = (
    "the pixel's share of the logit, handed back through attention in proportion to what each value contributed"
)
STOCHASTIC = False


class Settings(Method):
    gamma_convolution: Level  # how much more contributions of the output's sign count; 0: LRP-0
    gamma_linear: Level


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def check_network(network: Any) -> None:
    """Raise ValueError where a network has layers without a rule."""
    check_rules(network, rules(0.0, 0.0))


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The relevance of each pixel, [n, 3, 96, 96]; biases, position embeddings and softmax keep some of the logit's.

    Raises ValueError where the network has layers without a rule.
    """
    chosen = rules(settings.gamma_convolution, settings.gamma_linear)
    return relevance(score, patches, batch, chosen, torch.ones_like), {}


def weighted(
    gamma: float,
    func: Callable,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """The gamma rule: contributions of the output's sign count 1 + gamma times (Andéol et al. 2021; zennit's Gamma)."""
    func = partial(func, **kwargs)
    output = func(inputs, weight, bias, *args)
    if gamma == 0:
        return output
    plus = positive(func, inputs, weight, bias, *args)
    on = output.detach() > 0
    way = output + gamma * torch.where(on, plus, output - plus)
    ratio = torch.where(output == 0, 0, output / way).detach()  # what the output is of the larger sum
    return through(output, way * ratio)


def activation(func: Callable, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """All relevance is kept (equation 9), by the slope of the line from 0 to the value in place of the derivative."""
    value = inputs.detach()
    output = func(value.clone(), *args, **kwargs)
    return through(output, inputs * torch.where(value == 0, 0, output / value))


def layer_norm(
    func: Callable,
    inputs: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    centred = inputs - inputs.mean(tuple(range(-len(shape), 0)), keepdim=True)
    return through(func(inputs, shape, weight, bias, eps), normalised(centred, shape, weight, eps))


def rms_norm(
    func: Callable, inputs: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    least = torch.finfo(inputs.dtype).eps if eps is None else eps
    return through(func(inputs, shape, weight, eps), normalised(inputs, shape, weight, least))


def normalised(centred: Tensor, shape: Sequence[int], weight: Tensor | None, eps: float) -> Tensor:
    """Values over their deviation, which takes no relevance (proposition 3.4)."""
    variance = centred.detach().square().mean(tuple(range(-len(shape), 0)), keepdim=True)
    return centred * ((variance + eps).rsqrt() * (1 if weight is None else weight))


def divided(count: int, *factors: Any) -> list[Any]:
    """The same factors, of which the signals take one in so many parts of their relevance."""
    return [backward(factor, lambda above: above / count) if is_signal(factor) else factor for factor in factors]


def shared(*factors: Any) -> list[Any]:
    """The factors of a product, whose signals share its relevance equally (proposition 3.2)."""
    return divided(sum(map(is_signal, factors)), *factors)


def product(func: Callable, first: Any, second: Any, **kwargs: Any) -> Tensor:
    """Element by element or of matrices (proposition 3.3)."""
    return func(*shared(first, second), **kwargs)


def ratio(func: Callable, first: Any, second: Any, **kwargs: Any) -> Tensor:
    """Linear in the first; where both are signals, its gradient would leave no relevance at all."""
    if is_signal(second):
        raise NoRuleError("a ratio with a divisor that depends on the pixels")
    return func(first, second, **kwargs)


def attention(func: Callable, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Two products of matrices, with a softmax between them, which one kernel computes."""
    return func(*divided(2, *shared(query, key), value), *args, **kwargs)


def multi_head_attention(
    linear: Rule,
    func: Callable,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    weight: Tensor,
    bias: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """torch's layer, which is one function [t, b, c]: the rules for what it consists of, one after the other."""
    if any(kwargs.get(name) is not None for name in ("attn_mask", "key_padding_mask", "q_proj_weight")):
        raise NoRuleError("masked attention, or keys of another width than queries")
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    projected = (
        linear(functional.linear, tokens, *parameters).unflatten(2, (heads, -1)).permute(1, 2, 0, 3)
        for tokens, *parameters in zip((query, key, value), weight.chunk(3), biases, strict=True)
    )
    output = attention(functional.scaled_dot_product_attention, *projected)
    return linear(functional.linear, output.permute(2, 0, 1, 3).flatten(2), *args[-2:]), None


def gradient(func: Callable, *args: Any, **kwargs: Any) -> Any:
    """LRP-0 of what is linear, max-pooling and ReLU; softmax (proposition 3.1), and sigmoid, a softmax with a 0."""
    return func(*args, **kwargs)


# fmt: off
ACTIVATIONS = ("elu", "gelu", "hardswish", "mish", "silu", "tanh")  # 0 at 0
GRADIENTS = (
    "adaptive_avg_pool2d", "add", "avg_pool2d", "batch_norm", "leaky_relu", "mean", "neg", "relu", "sigmoid", "softmax",
    "sub", "sum",
)
# fmt: on


def rules(gamma_convolution: float, gamma_linear: float) -> dict[str, Rule]:
    convolution, linear = (partial(weighted, gamma) for gamma in (gamma_convolution, gamma_linear))

    def first(func: Callable, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rule = linear if func.__name__ == "linear" else convolution
        return rule(func, times(inputs), *args, **kwargs)

    return {
        "first": first,
        "conv2d": convolution,
        "linear": linear,
        **dict.fromkeys(ACTIVATIONS, activation),
        **dict.fromkeys(GRADIENTS, gradient),
        **dict.fromkeys(("bmm", "matmul", "mul"), product),
        "div": ratio,
        "layer_norm": layer_norm,
        "rms_norm": rms_norm,
        "scaled_dot_product_attention": attention,
        "multi_head_attention_forward": partial(multi_head_attention, linear),
    }
