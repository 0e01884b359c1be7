"""Feature ablation: what the score loses where a superpixel is off (Zeiler and Fergus 2013, arXiv 1311.2901)."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pcam_agreement.attribution.common.captum import of_superpixels
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Superpixels as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Feature ablation"
DESCRIPTION = "how much the score changes if the superpixel is switched off"
STOCHASTIC = False


def passes(settings: Settings) -> Passes:
    return Passes(forward=settings.segments + 1, gradient=0)  # there are about as many superpixels as segments


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch, superpixels: np.ndarray
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each superpixel's loss at its pixels, [n, 1, h, w].

    superpixels: labels [n, h, w]. A superpixel that is off shows its mean colour. Diagnostics: superpixels.
    """
    return of_superpixels("FeatureAblation", score, patches, seeds, batch, superpixels)
