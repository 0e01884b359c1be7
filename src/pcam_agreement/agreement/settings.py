"""Settings of agreement."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pcam_agreement.core.settings import Positive, Settings

TopFraction = Annotated[float, Field(gt=0, lt=1)]


class Agreement(Settings):
    top_fraction: TopFraction
    ties: Literal["share", "all"]
    curve: list[TopFraction]
    bootstrap: Annotated[int, Field(ge=100)]  # replicates
    centre_sigma: Positive  # pixels, of the Gaussian that localisation stands beside

    @field_validator("curve")
    @classmethod
    def _increasing(cls, curve: list[float]) -> list[float]:
        if not curve or sorted(set(curve)) != curve:
            raise ValueError(f"expected fractions in increasing order, each once, found {curve}")
        return curve
