"""Generic attention explainability: rollout of attention times its gradient (Chefer et al. 2021, arXiv 2103.15679)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.common.attention import attention_of, check_network, read_tokens, token_maps
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Generic attention explainability"
DESCRIPTION = "how much of the token reaches the head of a transformer, by the attention that raises the score"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The relevance of the patch tokens, bilinear to the size of the patch: [n, 1, 96, 96], non-negative.

    It is that for the class token, or the mean over the tokens that the network pools, less what these begin with: the
    identity, which is the same for all of them.

    Raises ValueError where the network has no attention from all tokens to all in every block.
    """

    def relevance(inputs: Tensor, rows: Tensor) -> Tensor:
        inputs = inputs.detach().requires_grad_(True)  # the parameters are frozen
        with torch.enable_grad():
            scores, attention = attention_of(score, inputs, rows)
            gradients = torch.autograd.grad(scores.sum(), attention)
        start = read_tokens(score.network, attention[0]).to(inputs.dtype)
        row = start
        for of_block, gradient in zip(reversed(attention), reversed(gradients), strict=True):
            weighted = (gradient * of_block.detach()).to(inputs.dtype).relu().mean(1)  # over the heads (equation 5)
            row = row + row @ weighted  # R <- R + A R (equation 6), of which R is the rows that the head reads
        return (row - start)[:, 0]

    return token_maps(patches, score.network.backbone, batch, relevance), {}
