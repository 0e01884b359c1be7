"""Weighted ridge regressions, many at once, and the influence of each sample on their coefficients."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """Linear models of m patches: coefficients [m, d], weighted R2 [m], each sample's influence on them [m, s, d]."""

    coefficients: Tensor
    r2: Tensor
    influence: Tensor


def weighted_ridge(features: Tensor, target: Tensor, weights: Tensor, alpha: float) -> Fit:
    """m ridge regressions without an intercept, all normal equations in one solve; columns of zeros get 0.

    features: [m, s, d]; target, weights: [m, s]; alpha > 0.
    """
    weighted = features * weights[..., None]
    normal = weighted.mT @ features + alpha * torch.eye(features.shape[2], dtype=features.dtype, device=features.device)
    solved = torch.linalg.solve(normal, weighted.mT)  # [m, d, s]
    coefficients = (solved @ target[..., None])[..., 0]
    residual = target - (features @ coefficients[..., None])[..., 0]
    # A fit follows its own samples: residuals are too small by the root of one less the leverage (HC2, MacKinnon
    # and White 1985).
    leverage = (features * solved.mT).sum(2).clamp(max=0.99)
    influence = solved.mT * (residual / (1 - leverage).sqrt())[..., None]
    return Fit(coefficients, explained_variance(features, target, weights, coefficients), influence)


def explained_variance(features: Tensor, target: Tensor, weights: Tensor, coefficients: Tensor) -> Tensor:
    """The weighted share [m] of a centred target's variance that these coefficients explain (R2)."""
    residual = target - (features @ coefficients[..., None])[..., 0]
    total = (weights * target**2).sum(1)
    return 1 - (weights * residual**2).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny)


def centred(values: Tensor, weights: Tensor) -> Tensor:
    """Values [m, s] or [m, s, d] less their mean over s, weighted by [m, s]."""
    shares = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return values - (shares.view(*shares.shape, *[1] * (values.ndim - 2)) * values).sum(1, keepdim=True)
