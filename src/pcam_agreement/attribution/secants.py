"""Slopes of a piecewise linear network between neighbouring points, in the place of gradients at points.

Along a path, the gradient of a ReLU network jumps as units switch, thousands of them; a rule that looks at points sees
when only to within the gap between two. Between two points a and b, a ReLU has the slope (relu(b) - relu(a)) / (b - a):
the mean of its gradient, where its input is linear in between. Chained from the score back to the pixels (the Rescale
rule of DeepLIFT: Shrikumar et al. 2017, arXiv 1704.02685) such slopes add up to the change of the score. Over a short
piece of a path they are the mean gradient, but for units that switch in the same piece and sit on the same way through
the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pcam_agreement.attribution.score import Score

# By name, what is affine in eval mode: its gradient is its slope between any two points.
# fmt: off
AFFINE = {
    "_assert", "__get__", "__getitem__", "adaptive_avg_pool2d", "add", "add_", "avg_pool2d", "batch_norm", "cat",
    "chunk", "clone", "contiguous", "conv2d", "dim", "dropout", "expand", "flatten", "interpolate", "linear",
    "mean", "neg", "pad", "permute", "reshape", "rsub", "size", "squeeze", "stack", "sub", "sub_", "sum", "to",
    "transpose", "unbind", "unflatten", "unsqueeze", "view",
}
# fmt: on
PRODUCTS = {"bmm", "div", "matmul", "mul"}  # affine, while all factors but the first are constants


class BentError(Exception):
    """A network is not piecewise linear: it computes what has no slope here."""


def mean_slopes(score: Score, points: Tensor, rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [b] of points [b, 3, h, w], and sums [p, 3, h, w] of the slopes from each point to the next.

    shares: [p, b], what each slope counts in each of p <= b sums; the last is of no slope and counts nothing. A slope
    times the way to the next point is the change of the score.

    Raises BentError, early, where the network computes more than affine functions, ReLU and max-pooling.
    """
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        with _Between() as between:
            scores = score(points, rows)
        if between.first is None:
            return scores.detach(), _sums(torch.autograd.grad(scores.sum(), points)[0], scores, shares)
        # What comes before is affine, the same for all points: go back through it with the sums alone.
        found, beside = torch.autograd.grad(scores.sum(), [between.first, points], allow_unused=True)
        if beside is not None:
            raise BentError("the pixels have another way to the score than through the first convolution")
        sums = _sums(found, scores, shares)
        first = between.stem(len(sums))
        return scores.detach(), torch.autograd.grad(first, points, sums.to(first))[0][: len(sums)]


def _sums(slopes: Tensor, scores: Tensor, shares: Tensor) -> Tensor:
    """Sums [p, c, h, w] of slopes [b, c, h, w] by shares [p, b]; NaN where one that counts, or its scores, is not
    finite."""
    slopes = slopes.permute(0, 2, 3, 1)  # as they lie in memory, where channels are last
    flat = slopes.flatten(1).to(shares)
    sums = shares @ flat
    sound = scores.isfinite()
    if not (sound.all() and sums.isfinite().all()):  # nothing times infinity is not nothing: again, without
        broken = ~(sound & sound.roll(-1) & flat.isfinite().all(1))
        flat[broken] = 0
        sums = shares @ flat
        sums[(shares[:, broken] != 0).any(1)] = torch.nan
    return sums.unflatten(1, slopes.shape[1:]).permute(0, 3, 1, 2)


class _Between(TorchFunctionMode):
    """While it is on, ReLU and max-pooling have slopes between neighbours of the batch in the place of gradients.

    The first convolution, where nothing bends before it, is cut off: `first` is what comes out of it, a leaf.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bent = False
        self.first: Tensor | None = None
        self.stem: Callable[[int], Tensor]  # what comes out of the first convolution for so many of the points

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in ("relu", "relu_"):
            self.bent = True
            inplace = name == "relu_" or True in (*args[1:], kwargs.get("inplace"))
            return _ReLU.apply(args[0], inplace and args[0] is not self.first)
        if name == "max_pool2d":
            self.bent = True
            return _MaxPool.apply(args[0], args[1:], kwargs)
        constant = not any(isinstance(factor, Tensor) and factor.requires_grad for factor in args[1:])
        if name not in AFFINE and not (name in PRODUCTS and constant):
            raise BentError(name)
        found = func(*args, **kwargs)
        if name == "conv2d" and not self.bent and self.first is None:
            self.stem = lambda count: func(args[0][:count], *args[1:], **kwargs)
            self.first = found = found.detach().requires_grad_(True)
        return found


class _ReLU(Function):
    """Slopes are known as soon as the inputs are, which then need not be kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, inplace: bool) -> Tensor:
        slope = torch.empty_like(inputs)
        slope[-1] = 0  # the last has no next
        between, less = slope[:-1], 1 - torch.finfo(inputs.dtype).eps
        # (relu(b) - relu(a)) / (b - a), with a less its last digit: where b = a that leaves the gradient
        torch.sub(inputs[1:], inputs[:-1], alpha=less, out=between)
        outputs = inputs.relu_() if inplace else inputs.relu()
        torch.div(torch.sub(outputs[1:], outputs[:-1], alpha=less), between, out=between)
        if inputs.element_size() < 4:  # in 16 bits, b is often a less its last digit, or that digit too small
            between.copy_(torch.where(between.isnan(), outputs[:-1].sign(), between))
        between.nan_to_num_(0)
        ctx.slope = slope
        if inplace:
            ctx.mark_dirty(inputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        slope, ctx.slope = ctx.slope, None  # autograd adds other ways to it in place, where nobody else has it
        return slope.mul_(above), None


class _MaxPool(Function):
    """The larger of two lines, in every window: the one that leads at a has the slope until the one that leads at b
    overtakes it."""

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
        # Who leads at a has all of it so far. Few windows have another at b; all of them would take four times as long.
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
