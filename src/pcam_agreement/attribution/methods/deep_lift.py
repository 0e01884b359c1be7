"""DeepLIFT: the change of the score from a baseline, by the Rescale rule (Shrikumar et al. 2017, arXiv 1704.02685)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.captum import check_rules as check_network
from pcam_agreement.attribution.common.captum import deep_lift
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Baseline, Method
from pcam_agreement.inference.batch import Batch

TITLE = "DeepLIFT"
DESCRIPTION = "the pixel's share of the score, by how much it changes each unit from an empty patch to this one"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


class Settings(Method):
    baseline: Baseline


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=2)  # the patch and its baseline


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Multipliers times the difference to the baseline, [n, 3, 96, 96]; diagnostics: convergence_delta.

    Captum's, whose rule for max-pooling is not exact; integrated gradients with `n_steps` and `max_steps` of 1 is the
    same rule, exact. Raises ValueError where the network computes more than affine functions, ReLU and max-pooling.
    """
    return deep_lift(score, patches, [baseline(patches, settings.baseline)], batch)
