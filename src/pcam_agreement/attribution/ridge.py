"""Weighted ridge regressions, many at once, and how much each draw pulls at their coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """Linear models of m patches: coefficients [m, d], weighted R2 [m], each draw's pull on them [m, s, d]."""

    coefficients: Tensor
    r2: Tensor
    pulls: Tensor


def weighted_ridge(features: Tensor, target: Tensor, weights: Tensor, alpha: float) -> Fit:
    """m ridge regressions without an intercept, all normal equations in one solve; columns of zeros get 0.

    features: [m, s, d]; target, weights: [m, s]; alpha > 0.
    """
    weighted = features * weights[..., None]
    normal = weighted.mT @ features + alpha * torch.eye(features.shape[2], dtype=features.dtype, device=features.device)
    solved = torch.linalg.solve(normal, weighted.mT)  # [m, d, s]
    coefficients = (solved @ target[..., None])[..., 0]
    residual = target - (features @ coefficients[..., None])[..., 0]
    # A fit follows its own draws: residuals are too small by the root of one less the leverage (HC2, MacKinnon
    # and White 1985).
    leverage = (features * solved.mT).sum(2).clamp(max=0.99)
    pulls = solved.mT * (residual / (1 - leverage).sqrt())[..., None]
    return Fit(coefficients, explained(features, target, weights, coefficients), pulls)


def explained(features: Tensor, target: Tensor, weights: Tensor, coefficients: Tensor) -> Tensor:
    """The weighted share [m] of a centred target's variance that these coefficients explain (R2)."""
    residual = target - (features @ coefficients[..., None])[..., 0]
    total = (weights * target**2).sum(1)
    return 1 - (weights * residual**2).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny)
