"""Settings of explaining that all methods share, and the classes that methods build theirs on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pcam_agreement.core.settings import AS_TEXT, Count, Settings

Baseline = Literal["white", "black", "mean", "blurred", "imagenet"]  # see common.baseline
Reduction = Literal["max_of_absolute", "absolute_of_sum", "positive_of_sum", "minmax_of_sum"]  # see heatmaps.masks


class Explanation(Settings):
    """`explain` in params.yaml: which patches, and which question is asked of every network."""

    patches: Count
    sample: Literal["stratified", "first"]
    repeat: Annotated[int, Field(ge=0)]  # patches
    target: Literal["tumour", "predicted"]
    output: Literal["logit", "probability"]
    batch_size: Count
    chunk: Count
    precision: Annotated[Literal["32", "bf16", "16"], AS_TEXT]
    storage: Literal["float16", "uint8"]  # see heatmaps.levels
    devices: Count
    nodes: Count


class Method(Settings):
    """A block under `method` in params.yaml."""

    reduce: Reduction  # of the attribution to a heatmap


class Superpixels(Method):
    """Scores of a patch with superpixels on or off."""

    superpixels: Literal["slic", "grid", "quickshift"]
    segments: Annotated[int, Field(ge=2)]


class Surrogate(Superpixels):
    """Linear models of these scores."""

    samples: Annotated[int, Field(ge=4, multiple_of=2)]  # in a round
    max_samples: Annotated[int, Field(ge=4)]  # the last round that fits
    tolerance: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _at_least_one_round(self) -> Self:
        if self.max_samples < self.samples:
            raise ValueError(f"expected max_samples of at least samples ({self.samples}), found {self.max_samples}")
        return self
