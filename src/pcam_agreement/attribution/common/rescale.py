"""DeepLIFT's Rescale multipliers of a piecewise linear network between neighbouring points of a path.

Along a path, the gradient of a ReLU network jumps as units switch, thousands of them; a rule that evaluates it at
points locates a switch only to within the gap between two. Between two points a and b, a ReLU has the multiplier
(relu(b) - relu(a)) / (b - a): the mean of its gradient, where its input is linear in between. Chained from the score
back to the pixels (the Rescale rule: Shrikumar et al. 2017, arXiv 1704.02685) multipliers add up to the change of the
score. Over a short step of a path they are the mean gradient, but for units that switch in the same step and lie on the
same way through the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pcam_agreement.attribution.common.score import Score

# By name, what is affine in eval mode: its gradient is its multiplier between any two points.
# fmt: off
AFFINE = {
    "_assert", "__get__", "__getitem__", "adaptive_avg_pool2d", "add", "add_", "avg_pool2d", "batch_norm", "cat",
    "chunk", "clone", "contiguous", "conv2d", "dim", "dropout", "expand", "flatten", "interpolate", "linear",
    "mean", "neg", "pad", "permute", "reshape", "rsub", "size", "squeeze", "stack", "sub", "sub_", "sum", "to",
    "transpose", "unbind", "unflatten", "unsqueeze", "view",
}
# fmt: on
PRODUCTS = {"bmm", "div", "matmul", "mul"}  # affine, while all factors but the first are constants


def is_affine(name: str, args: tuple) -> bool:
    """Whether a function of torch of this name is affine in what depends on the pixels, which has a gradient."""
    constant = not any(isinstance(factor, Tensor) and factor.requires_grad for factor in args[1:])
    return name in AFFINE or (name in PRODUCTS and constant)


class NotPiecewiseLinearError(Exception):
    """The network computes something other than affine functions, ReLU and max-pooling."""


def mean_multipliers(score: Score, points: Tensor, rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [b] of points [b, 3, h, w], and sums [p, 3, h, w] of the multipliers from each point to the next.

    shares: [p, b], the weight of each multiplier in each of p <= b sums; the last point has no next and weighs 0. A
    multiplier times the difference to the next point is the change of the score.

    Raises NotPiecewiseLinearError, early, where the network computes more than affine functions, ReLU and max-pooling.
    """
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        with _RescaleMode() as mode:
            scores = score(points, rows)
        if mode.first is None:
            return scores.detach(), _sums(torch.autograd.grad(scores.sum(), points)[0], scores, shares)
        # What comes before is affine, the same for all points: go back through it with the sums alone.
        multipliers, bypass = torch.autograd.grad(scores.sum(), [mode.first, points], allow_unused=True)
        if bypass is not None:
            raise NotPiecewiseLinearError("the pixels reach the score by another way than the first convolution")
        sums = _sums(multipliers, scores, shares)
        first = mode.stem(len(sums))
        return scores.detach(), torch.autograd.grad(first, points, sums.to(first))[0][: len(sums)]


def _sums(multipliers: Tensor, scores: Tensor, shares: Tensor) -> Tensor:
    """Sums [p, c, h, w] of multipliers [b, c, h, w] by shares [p, b].

    NaN where a multiplier with a weight, or its scores, are not finite.
    """
    multipliers = multipliers.permute(0, 2, 3, 1)  # as they lie in memory, where channels are last
    flat = multipliers.flatten(1).to(shares)
    sums = shares @ flat
    finite = scores.isfinite()
    if not (finite.all() and sums.isfinite().all()):  # 0 times infinity is not 0: again, without these
        broken = ~(finite & finite.roll(-1) & flat.isfinite().all(1))
        flat[broken] = 0
        sums = shares @ flat
        sums[(shares[:, broken] != 0).any(1)] = torch.nan
    return sums.unflatten(1, multipliers.shape[1:]).permute(0, 3, 1, 2)


class _RescaleMode(TorchFunctionMode):
    """While it is on, ReLU and max-pooling have multipliers between neighbours of the batch in place of gradients.

    The first convolution, where everything before it is affine, is cut off: `first` is its output, a leaf.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nonlinear = False
        self.first: Tensor | None = None
        self.stem: Callable[[int], Tensor]  # the first convolution's output for so many of the points

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in ("relu", "relu_"):
            self.nonlinear = True
            inplace = name == "relu_" or True in (*args[1:], kwargs.get("inplace"))
            return _ReLU.apply(args[0], inplace and args[0] is not self.first)
        if name == "max_pool2d":
            self.nonlinear = True
            return _MaxPool.apply(args[0], args[1:], kwargs)
        if not is_affine(name, args):
            raise NotPiecewiseLinearError(name)
        output = func(*args, **kwargs)
        if name == "conv2d" and not self.nonlinear and self.first is None:
            self.stem = lambda count: func(args[0][:count], *args[1:], **kwargs)
            self.first = output = output.detach().requires_grad_(True)
        return output


class _ReLU(Function):
    """Multipliers are known as soon as the inputs are, which then need not be kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, inplace: bool) -> Tensor:
        multiplier = torch.empty_like(inputs)
        multiplier[-1] = 0  # the last has no next
        values, less = multiplier[:-1], 1 - torch.finfo(inputs.dtype).eps
        # (relu(b) - relu(a)) / (b - a), with a less its last digit: where b = a that leaves the gradient
        torch.sub(inputs[1:], inputs[:-1], alpha=less, out=values)
        outputs = inputs.relu_() if inplace else inputs.relu()
        torch.div(torch.sub(outputs[1:], outputs[:-1], alpha=less), values, out=values)
        if inputs.element_size() < 4:  # in 16 bits, b is often a less its last digit, or that digit too small
            values.copy_(torch.where(values.isnan(), outputs[:-1].sign(), values))
        values.nan_to_num_(0)
        ctx.multiplier = multiplier
        if inplace:
            ctx.mark_dirty(inputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        # given away: where nothing else refers to it, autograd adds other gradients to it in place
        multiplier, ctx.multiplier = ctx.multiplier, None
        return multiplier.mul_(above), None


class _MaxPool(Function):
    """The larger of two lines, in every window: the pixel that is the maximum at a has the multiplier until the one
    that is the maximum at b overtakes it."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        with torch.enable_grad():
            leaf = inputs.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
            outputs, index = functional.max_pool2d_with_indices(leaf, *args, **kwargs)
        ctx.pooled = leaf, outputs, index
        return outputs.detach()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (inputs, outputs, index), ctx.pooled = ctx.pooled, None
        below = torch.autograd.grad(outputs, inputs, above)[0].permute(0, 2, 3, 1).contiguous()
        # The maximum at a has all of it so far. Few windows have another at b; all would take four times as long.
        channels, pixels, windows = inputs.shape[1], inputs[0].numel(), outputs[0].numel()
        pooled = (inputs, outputs, index, above)
        values, outputs, index, above = (maps.permute(0, 2, 3, 1).reshape(-1) for maps in pooled)
        at_a = (index[:-windows] != index[windows:]).nonzero()[:, 0]
        at_b = at_a + windows
        corner = at_a // windows * pixels + at_a % channels
        first, last = (corner + index.index_select(0, at) * channels for at in (at_a, at_b))
        lead = outputs.index_select(0, at_a) - values.index_select(0, last)
        gain = outputs.index_select(0, at_b) - values.index_select(0, first + pixels)
        late = above.index_select(0, at_a) * (gain / (lead + gain)).nan_to_num_(0)
        below.view(-1).index_add_(0, first, late, alpha=-1).index_add_(0, last, late)
        return below.permute(0, 3, 1, 2), None, None
