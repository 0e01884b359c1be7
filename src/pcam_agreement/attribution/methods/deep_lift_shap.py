"""DeepLIFT SHAP: the mean of DeepLIFT over several baselines (Lundberg and Lee 2017, arXiv 1705.07874)."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.captum import check_rules as check_network
from pcam_agreement.attribution.common.captum import deep_lift
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Baseline, Method
from pcam_agreement.inference.batch import Batch

TITLE = "DeepLIFT SHAP"
DESCRIPTION = "DeepLIFT, averaged over several empty patches"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


class Settings(Method):
    baselines: Annotated[list[Baseline], Field(min_length=2)]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=2 * len(settings.baselines))  # the patch and a baseline


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean attribution, [n, 3, 96, 96], as of Captum's DeepLiftShap; diagnostics: convergence_delta.

    Raises ValueError where the network computes more than affine functions, ReLU and max-pooling.
    """
    return deep_lift(score, patches, [baseline(patches, kind) for kind in settings.baselines], batch)
