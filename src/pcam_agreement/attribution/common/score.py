"""What is explained: the logit of a class (or, as the original course project did, its probability)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Called with inputs [b, 3, 96, 96] and the rows [b] of the patches they were made from -> scores [b]."""

    network: Any  # a Classifier, or another module from patches to logits
    signs: Tensor  # [n], one a patch: the score of the normal class is minus the logit
    output: str

    def __call__(self, inputs: Tensor, rows: Tensor) -> Tensor:
        signed = self.network(inputs) * self.signs[rows]
        return signed if self.output == "logit" else torch.sigmoid(signed)


def make_score(network: Any, logits: Tensor, target: str, output: str) -> Score:
    """The score of inputs that were made from patches with these logits [n].

    target: tumour (the same question for every network and patch) or predicted (each network's predicted class).
    output: logit, or probability, whose gradient is 0 once it saturates.

    Raises ValueError where the network is in train mode: its logits would depend on the batch.
    """
    if network.training:
        raise ValueError("the network is in train mode; call eval() before explaining it.")
    signs = torch.ones_like(logits) if target == "tumour" else torch.where(logits >= 0, 1.0, -1.0)
    return Score(network, signs.to(logits.dtype), output)
