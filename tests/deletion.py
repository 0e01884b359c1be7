"""Networks on small patches whose deletion and insertion curves are known."""

import numpy as np
import torch
from torch import nn

from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.faithfulness.curves import areas, curves
from pcam_agreement.inference.batch import Batch

SIDE = 16
FEW = {"fill": "black", "steps": 8, "rolls": 3}


class Weighted(nn.Module):
    """A weighted sum of the pixels: with a black fill, what each contributes is known."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


class Square(nn.Module):
    """A smooth network of rows and columns 2 to 5 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, patches):
        return torch.tanh(patches[:, :, 2:6, 2:6].mean((1, 2, 3)) * 3) - 1


def noise(n, seed=0):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def signed(seed=1):
    """Weights of both signs, smooth and not of sum 0."""
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.3


def curves_of(network, patches, heatmaps, chosen, target="tumour", size=64, first=0):
    with torch.no_grad():
        score = make_score(network, network(patches), target, "logit")
    seeds = range(first, first + len(patches))
    return curves(score, patches, np.asarray(heatmaps, np.float16), seeds, chosen, Batch(size))


def areas_of(*arguments, reduce="absolute_of_sum", **options):
    return areas(curves_of(*arguments, **options), reduce)
