"""Settings of training: the `train` block with a recipe's own block laid over it."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from pcam_agreement.core.settings import AS_TEXT, Count, Fraction, Level, Positive, Settings


class Training(Settings):
    label: str  # `label` or a column of meta that is true or false
    weights: str  # default, none or the path of a state dict, with {training} in it where each training has its own
    tumour_class: Literal[0, 1]  # of two outputs
    normalisation: Literal["published", "none", "imagenet"]
    freeze: bool
    unfreeze: list[str]  # layers of a frozen backbone that are trained with the head
    input: Literal["native", "architecture"]
    pooling: Literal["published", "token", "mean", "token_and_mean"]
    options: dict[str, bool | int | FiniteFloat | str]  # of timm's model
    optimiser: Literal["adamw", "adam", "sgd"]
    lr: Positive
    weight_decay: Level
    schedule: Literal["constant", "cosine"]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    precision: Annotated[Literal["32", "bf16", "16"], AS_TEXT]
    patience: Count | None
    fraction: Fraction
    flips: bool
    quarter_turns: bool
    stain_jitter: Level
    compile: bool
    placement: Literal["auto", "device", "ram", "memmap"]
    checkpoint_minutes: Level
    accumulate: Count
    devices: Count
    nodes: Count

    @property
    def shares(self) -> int:
        """How many shares a batch is divided into, by processes and by accumulation."""
        return self.accumulate * self.devices * self.nodes

    @property
    def features_once(self) -> bool:
        """Whether a frozen backbone is the same for all trainings and given the same patches at every step."""
        augmented = self.flips or self.quarter_turns or self.stain_jitter > 0
        same = self.weights != "none" and "{training}" not in self.weights
        return self.freeze and not self.unfreeze and same and not augmented

    @model_validator(mode="after")
    def _unfreeze_what_is_frozen(self) -> Self:
        if self.unfreeze and not self.freeze:
            raise ValueError(f"expected freeze: true with unfreeze, found freeze: false and unfreeze {self.unfreeze}")
        return self

    @model_validator(mode="after")
    def _two_patches_each(self) -> Self:
        if self.batch_size < 2 * self.shares:
            raise ValueError(
                f"expected a batch_size of at least {2 * self.shares}, two patches for each of its {self.shares} "
                f"shares (accumulate x devices x nodes), found {self.batch_size}"
            )
        return self


class Recipe(Training):
    """A block of `network`, whole (see networks.recipes)."""

    architecture: str
