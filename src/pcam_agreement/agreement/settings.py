"""Settings of agreement."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pcam_agreement.core.settings import Count, Level, Positive, Settings

TopFraction = Annotated[float, Field(gt=0, lt=1)]


class Agreement(Settings):
    top_fraction: TopFraction
    sigma: Level  # pixels, of the Gaussian that a heatmap is blurred by before its mask is taken
    ties: Literal["share", "all"]
    fractions: list[TopFraction]
    sigmas: list[Level]
    ssim_patches: Count
    bootstrap: Annotated[int, Field(ge=100)]  # replicates
    centre_sigma: Positive  # pixels, of the Gaussian that localisation stands beside

    @field_validator("fractions", "sigmas")
    @classmethod
    def _increasing(cls, values: list[float]) -> list[float]:
        if not values or sorted(set(values)) != values:
            raise ValueError(f"expected numbers in increasing order, each once, found {values}")
        return values
