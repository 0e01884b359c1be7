"""What is explained: the logit of a class (or, as the original course project did, its probability)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]


def make_score(network: nn.Module, logits: Tensor, target: str, output: str) -> Score:
    """The score of inputs that were made from patches with these logits [n].

    target: tumour (the same question for every network and patch) or predicted (each network's own answer: the score
    of the normal class is minus the logit). output: logit, or probability, whose gradient is 0 once it saturates.

    Raises ValueError where the network is in train mode: its answers would depend on the batch.
    """
    if network.training:
        raise ValueError("the network is in train mode; call eval() before explaining it.")
    signs = torch.ones_like(logits) if target == "tumour" else torch.where(logits >= 0, 1.0, -1.0)

    def score(inputs: Tensor, rows: Tensor) -> Tensor:
        signed = network(inputs) * signs[rows]
        return signed if output == "logit" else torch.sigmoid(signed)

    return score
