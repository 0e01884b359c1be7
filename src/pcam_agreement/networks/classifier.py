"""Classifiers of raw patches: any of torchvision's or timm's, with one logit."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcam_agreement.core.files import sha256
from pcam_agreement.core.names import named
from pcam_agreement.networks.architectures import IMAGENET_MEAN, IMAGENET_STD, of_timm
from pcam_agreement.networks.hub import given_file, is_published, weights_file
from pcam_agreement.networks.weights import last_line, load_weights

# torchvision reads its published weights with torch.load: hold it to tensors.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

Options = Iterable[tuple[str, Any]]
NORMALISATION = {"none": ((0.0,) * 3, (1.0,) * 3), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}


class Classifier(nn.Module):
    """From patches [n, 3, 96, 96] in [0, 1] to one logit each [n]; positive means tumour.

    Resizing and normalising happen inside, so that every attribution is born in patch pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        backbone: nn.Module,
        head: str,  # attribute path of the layer with one output
        size: int,  # pixels a side, of what the backbone is given
        mean: Sequence[float],
        std: Sequence[float],
        input_size: str = "native",  # or architecture
        config: dict[str, Any] | None = None,  # of a published network, or with options
        pooling: str = "published",
    ) -> None:
        super().__init__()
        self.architecture, self.input_size, self.config, self.pooling = architecture, input_size, config, pooling
        self.weights = "none"  # where they come from, as `build_classifier` was told
        self.head_is_new = True  # and not from there
        self.source_sha256 = ""  # of a file's tensors but the head's
        self.file_sha256 = ""  # of such a file that was given, not the hub's
        self.backbone = backbone
        self.head = head
        self.size = size
        self.frozen = False
        self.unfrozen: list[str] = []
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        if patches.shape[-1] != self.size:
            patches = functional.interpolate(patches, (self.size, self.size), mode="bilinear", antialias=True)
        normalised = (patches - self.mean) / self.std
        # The backbone may compute in less precision (`inference.load`); what comes in and goes out keeps its own.
        inner = next(self.backbone.parameters()).dtype
        return self.backbone(normalised.to(inner))[:, 0].to(normalised.dtype)

    def freeze(self, unfrozen: Sequence[str] = ()) -> None:
        """Train the head and these layers of the backbone alone, such as blocks.11.

        The rest keeps its parameters and, in eval mode, its batch-norm statistics. Raises ValueError for a layer that
        the backbone does not have.
        """
        self.frozen, self.unfrozen = True, list(unfrozen)
        self.backbone.requires_grad_(False)
        for layer in (self.head, *unfrozen):
            named("layer", layer, dict(self.backbone.named_modules())).requires_grad_(True)
        self.train(self.training)

    def head_layer(self) -> nn.Module:
        return self.backbone.get_submodule(self.head)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for layer in self.unfrozen:
                self.backbone.get_submodule(layer).train(mode)
        return self


def to_float(patches: Tensor) -> Tensor:
    """uint8 [n, 96, 96, 3] as in the files -> float32 [n, 3, 96, 96] in [0, 1], in the same order of memory.

    What is no uint8, features, stays as it is.
    """
    return patches.permute(0, 3, 1, 2).float().div(255) if patches.dtype == torch.uint8 else patches


def build_classifier(
    architecture: str,
    weights: str,
    input_size: str,
    new_head: bool = True,
    normalisation: str = "published",
    tumour_class: int = 1,
    pooling: str = "published",
    options: Options = (),
) -> Classifier:
    """A classifier with one logit.

    architecture: a classifier of torchvision, timm/<name>[.<weights>], or a published network (`networks.hub`).
    weights: default (the published ones, downloaded once), none, or the path of a state dict of this architecture.
    input_size: native (96, or the next multiple of a transformer's tokens) or architecture; patches are resized inside
    the network. new_head: the head is a new one, unless the weights have one of one output; else it is that of the
    weights (`load_weights`). normalisation: by the mean and deviation that are published, of imagenet, or none.
    pooling, options: see `timm_models.build_backbone`. Random numbers come from torch's global generator.

    Raises ValueError for an unknown architecture, for one that cannot take this size, and for weights that do not fit.
    """
    published = weights == "default" and is_published(architecture)
    pretrained = weights == "default" and not published
    classifier = Classifier(**_parts(architecture, pretrained, input_size, None, pooling, options))
    classifier.weights = weights
    if normalisation in NORMALISATION:
        for buffer, values in zip((classifier.mean, classifier.std), NORMALISATION[normalisation], strict=True):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    run_blank_patch(classifier)
    if published or weights not in ("default", "none"):
        path = weights_file(architecture) if published else Path(weights)
        classifier.head_is_new, classifier.source_sha256 = load_weights(
            classifier.backbone, classifier.head, architecture, path, new_head, tumour_class
        )
    if given := given_file(architecture, weights):
        classifier.file_sha256 = sha256(given)
    return classifier


def blank_classifier(
    architecture: str,
    input_size: str,
    config: dict[str, Any] | None = None,
    pooling: str = "published",
    options: Options = (),
) -> Classifier:
    """A classifier in eval mode whose parameters are still to be loaded.

    torchvision's are built on torch's meta device, without values, which saves up to a third of the start of a stage;
    timm's have buffers that no state dict holds and are built as ever. So is what needs values to be built (RegNet).

    Raises ValueError for an unknown architecture and for one that cannot be built for this size.
    """
    arguments = (architecture, False, input_size, config, pooling, options)
    if not of_timm(architecture):
        try:
            with torch.device("meta"):
                parts = _parts(*arguments)
            return Classifier(**parts).eval()
        except NotImplementedError:
            pass
    return Classifier(**_parts(*arguments)).eval()


@cache
def check_size(
    architecture: str, input_size: str, pooling: str = "published", options: tuple[tuple[str, Any], ...] = ()
) -> None:
    """Raise ValueError where the architecture is unknown or cannot take patches of this size; without its weights."""
    of_shapes(run_blank_patch, architecture, input_size, pooling, options)


def of_shapes(
    work: Callable[[Classifier], None], architecture: str, input_size: str, pooling: str, options: Options
) -> None:
    """Do work that needs no values with a frozen classifier in eval mode, on torch's meta device.

    A large one takes a minute and gigabytes to be given random weights. Where the work fails, which may be the fault of
    that device, it is done again with one that has them.
    """
    try:
        with torch.device("meta"):
            classifier = Classifier(**_parts(architecture, False, input_size, None, pooling, options))
            work(classifier.eval().requires_grad_(False))
    except (NotImplementedError, RuntimeError, ValueError):
        classifier = build_classifier(architecture, "none", input_size, pooling=pooling, options=options)
        work(classifier.eval().requires_grad_(False))


def run_blank_patch(classifier: Classifier) -> None:
    """Send a patch of zeros through the backbone, in eval mode; ValueError where it cannot take patches of its size."""
    mode = classifier.training
    parameter = next(classifier.backbone.parameters())
    patch = torch.zeros(1, 3, classifier.size, classifier.size, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad():
            shape = list(classifier.eval().backbone(patch).shape)
        reason = "" if shape == [1, 1] else f"its output has the shape {shape}"
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        reason = last_line(error)
    if reason:
        raise ValueError(
            f"{classifier.architecture} cannot take patches of {classifier.size} pixels ({reason}); set its input to "
            "architecture or choose another."
        )
    classifier.train(mode)


def _parts(
    architecture: str,
    pretrained: bool,
    input_size: str,
    config: dict[str, Any] | None,
    pooling: str,
    options: Options,
) -> dict[str, Any]:
    """The arguments of a Classifier."""
    # Each library takes seconds to import: only the one that is needed.
    if of_timm(architecture):
        from pcam_agreement.networks import timm_models

        parts = timm_models.build_backbone(architecture, pretrained, input_size, config, pooling, options)
    elif pooling != "published" or tuple(options):
        raise ValueError(
            f"{architecture} is torchvision's, and pooling and options are for models of timm; take timm/<name>, or "
            "leave them at published and {}."
        )
    else:
        from pcam_agreement.networks import torchvision_models

        parts = torchvision_models.build_backbone(architecture, pretrained, input_size)
    return {"architecture": architecture, "input_size": input_size, **parts}
