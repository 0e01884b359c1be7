"""Networks whose attributions are known in closed form, and methods run on a network."""

import copy

import torch
from torch import nn

from conftest import attribute, chosen
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.inference.batch import Batch

SEEDS = [seed_of(0, index) for index in range(8)]


class Linear(nn.Module):
    """A weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


def precise(network, patches):
    """In float64: in float32 a rounded input can open or close a ReLU, and the gradient jumps."""
    return copy.deepcopy(network).double(), patches.double()


def score_of(network, patches, target="tumour", output="logit"):
    with torch.no_grad():
        return make_score(network, network(patches), target, output)


def run(method, network, patches, settings, batch_size=16, seeds=SEEDS, **change):
    """Attribution and diagnostics by the committed settings with these changed."""
    score = score_of(network, patches)
    return attribute(
        method, score, patches, seeds[: len(patches)], chosen(settings, method, **change), Batch(batch_size)
    )
