"""Attention rollout: attention and identity multiplied over the blocks (Abnar and Zuidema 2020, arXiv 2005.00928)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.common.attention import attention_of, check_network, read_tokens, token_maps
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Attention rollout"
DESCRIPTION = "how much of the token reaches the head of a transformer, followed through its attention"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=1, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The rolled-out attention to the patch tokens, bilinear to the size of the patch: [n, 1, 96, 96], non-negative.

    It is that of the class token, or the mean over the tokens that the network pools. The score does not matter.

    Raises ValueError where the network has no attention from all tokens to all in every block.
    """

    def rollout(inputs: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            _, attention = attention_of(score, inputs, rows)
        row = read_tokens(score.network, attention[0]).to(inputs.dtype)
        for of_block in reversed(attention):
            mean = of_block.to(inputs.dtype).mean(1)  # over the heads
            row = (row @ mean + row) / 2  # the residual connection hands on as much as the attention
        return row[:, 0]

    return token_maps(patches, score.network.backbone, batch, rollout), {}
