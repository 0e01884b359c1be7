"""params.yaml as typed, validated settings: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pcam_agreement.names import check_chosen, nearest

Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Level = Annotated[float, Field(ge=0)]
AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)  # -S writes 16 without quotes
Baseline = Literal["white", "black", "mean", "blurred", "imagenet"]  # see attribution.path.baseline
Reduction = Literal["max_of_absolute", "absolute_of_sum", "positive_of_sum", "minmax_of_sum"]  # see heatmap.reduce


class Settings(BaseModel):
    """A block of params.yaml. Every key must be there: its one default is the value in that file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitSlides(Settings):
    train: Count
    valid: Count
    test: Count


class SplitFractions(Settings):
    train: Fraction
    valid: Fraction
    test: Fraction


class Synthetic(Settings):
    slides: SplitSlides
    patches_per_slide: Count


class PCam(Settings):
    mirrors: list[str]  # URLs with {name}, tried in turn
    directory: str  # downloads; files that are already there are verified and adopted


class Folder(Settings):
    path: str | None
    fractions: SplitFractions  # used where the folder has no train/valid/test


class Data(Settings):
    source: Literal["synthetic", "planted", "pcam", "folder"]
    synthetic: Synthetic
    planted: Synthetic
    pcam: PCam
    folder: Folder


class Training(Settings):
    label: str  # `label` or a column of meta that is true or false
    weights: str  # default, none or the path of a state dict
    freeze: bool
    input: Literal["native", "architecture"]
    optimiser: Literal["adamw", "adam", "sgd"]
    lr: Annotated[float, Field(gt=0)]
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

    @model_validator(mode="after")
    def _two_patches_each(self) -> Training:
        parts = self.accumulate * self.devices * self.nodes
        if self.batch_size < 2 * parts:
            raise ValueError(
                f"expected a batch_size of at least {2 * parts}, two patches for each of its {parts} parts (accumulate "
                f"x devices x nodes), found {self.batch_size}"
            )
        return self


class Network(Training):
    architecture: str
    seed: Annotated[int, Field(ge=0)]


class Evaluation(Settings):
    ece_bins: Count
    temperature: bool
    batch_size: Count


class Explanation(Settings):
    patches: Count
    draw: Literal["stratified", "first"]
    repeat: Annotated[int, Field(ge=0)]  # patches
    target: Literal["tumour", "predicted"]
    output: Literal["logit", "probability"]
    batch_size: Count | Literal["auto"]
    chunk: Count
    precision: Annotated[Literal["32", "bf16", "16", "auto"], AS_TEXT]
    devices: Count
    nodes: Count


class Method(Settings):
    reduce: Reduction  # of the attribution to a heatmap


class SmoothGrad(Method):
    samples: Count
    sigma: Level  # of the noise; the pixels' range is 1


class IntegratedGradients(Method):
    baseline: Baseline
    rule: Literal["auto", "gauss_legendre", "right"]
    nodes: Count
    max_nodes: Count
    tolerance: Annotated[float, Field(gt=0)]


class Occlusion(Method):
    window: Annotated[int, Field(ge=1, le=96)]  # pixels a side
    stride: Annotated[int, Field(ge=1, le=96)]


class Surrogate(Method):
    """Linear models of the scores of a patch with superpixels on or off."""

    superpixels: Literal["slic", "grid", "quickshift"]
    segments: Annotated[int, Field(ge=2)]
    samples: Annotated[int, Field(ge=4, multiple_of=2)]  # in a round
    max_samples: Annotated[int, Field(ge=4)]  # the last round that fits
    tolerance: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _at_least_one_round(self) -> Surrogate:
        if self.max_samples < self.samples:
            raise ValueError(f"expected max_samples of at least samples ({self.samples}), found {self.max_samples}")
        return self


class Lime(Surrogate):
    draws: Literal["orthogonal", "independent"]
    kernel: Literal["distance", "similarity"]
    kernel_width: Annotated[float, Field(gt=0)]
    ridge: Annotated[float, Field(gt=0)]


class KernelShap(Surrogate):
    pass


class Centre(Method):
    sigma: Annotated[float, Field(gt=0)]


class Methods(Settings):
    saliency: Method
    input_x_gradient: Method
    smoothgrad: SmoothGrad
    integrated_gradients: IntegratedGradients
    grad_cam: Method
    occlusion: Occlusion
    lime: Lime
    kernel_shap: KernelShap
    random: Method
    centre: Centre


class Faithfulness(Settings):
    patches: Count
    steps: Annotated[int, Field(ge=2)]
    fill: Baseline
    rolls: Annotated[int, Field(ge=1, le=100)]


class Agreement(Settings):
    top_fraction: Annotated[float, Field(gt=0, lt=1)]
    ties: Literal["share", "all"]
    curve: list[Annotated[float, Field(gt=0, lt=1)]]
    bootstrap: Annotated[int, Field(ge=100)]

    @field_validator("curve")
    @classmethod
    def _increasing(cls, curve: list[float]) -> list[float]:
        if not curve or sorted(set(curve)) != curve:
            raise ValueError(f"expected fractions in increasing order, each once, found {curve}")
        return curve


class Report(Settings):
    panels: Count


class Atlas(Settings):
    patches: Count


class Params(Settings):
    """The whole file. `network` holds the shared `train` block with each network's own keys laid over it."""

    seed: Annotated[int, Field(ge=0)]
    device: Literal["auto", "cpu", "cuda"]
    networks: list[str]
    methods: list[str]
    data: Data
    train: Training
    network: dict[str, Network]
    evaluate: Evaluation
    explain: Explanation
    method: Methods
    faithfulness: Faithfulness
    agreement: Agreement
    report: Report
    atlas: Atlas


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check the parameters.

    Raises ValueError with one sentence that names the key, what was expected and the nearest known name.
    """
    try:
        raw = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; run from the top of the repository.") from error
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return check(raw, str(path))


def check(raw: Any, origin: str = "params.yaml") -> Params:
    """Parameters from plain dictionaries and lists; raises ValueError as `load` does."""
    if not isinstance(raw, dict):
        raise ValueError(f"{origin}: expected a mapping of settings, found {type(raw).__name__}.")
    merged = dict(raw)
    shared, blocks = raw.get("train"), raw.get("network")
    if isinstance(shared, dict) and isinstance(blocks, dict):
        merged["network"] = {
            name: {**shared, "seed": raw.get("seed"), **block} if isinstance(block, dict) else block
            for name, block in blocks.items()
        }
    try:
        params = Params.model_validate(merged)
    except ValidationError as error:
        raise ValueError(f"{origin}: {_sentence(error)}") from None
    check_chosen(params, origin)
    return params


def _sentence(error: ValidationError) -> str:
    """The first problem pydantic found, in one sentence."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {where}; {nearest(str(problem['loc'][-1]), _known_keys(problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{where} is missing."
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}."
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        hint = "; " + nearest(problem["input"], re.findall(r"'([^']+)'", problem["msg"]))
    return f"{where}: {expected}, found {problem['input']!r}{hint}".rstrip(".") + ("" if hint.endswith("?") else ".")


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Params
    for key in loc:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[key].annotation
            if model == dict[str, Network]:
                model = {}
        else:
            model = Network  # one step into the dictionary of networks
    return list(model.model_fields)
