"""timm's models, by their names or by the config.json of a published network, with what is said of them there."""

from typing import Any

import timm
import torch

from pcam_agreement.core.patch import PATCH
from pcam_agreement.networks.architectures import check_architecture
from pcam_agreement.networks.hub import is_published, read_config


def build_backbone(
    architecture: str, pretrained: bool, input_size: str, config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of a Classifier for timm/<name>[.<weights>], as `torchvision_models.build_backbone` gives them.

    config: of a published network, the content of its config.json, where it is known already.

    Raises ValueError for a model that timm does not have, that has no such weights, that cannot be built for this
    size, or that has several heads.
    """
    options: dict[str, Any] = {}
    if is_published(architecture):
        config = config or read_config(architecture)
        name, options = config["architecture"], dict(config.get("model_args") or {})
    else:
        name = architecture.removeprefix("timm/")
    check_architecture(f"timm/{name}")
    published = timm.get_pretrained_cfg(name)
    if published is None:
        raise ValueError(f"timm knows neither size nor mean of {name}; choose another model.")
    if pretrained and not published.has_weights:
        raise ValueError(f"timm has no weights for {name}; set its weights to none or a path.")
    said = {**vars(published), **(config or {}).get("pretrained_cfg", config or {})}
    size = PATCH if input_size == "native" else said["input_size"][-1]
    options |= {"num_classes": 1}
    try:
        if published.fixed_input_size:
            size = _multiple_of_tokens(name, size, options)
            options["img_size"] = size
        backbone: Any = timm.create_model(name, pretrained=pretrained, **options)
    except (AssertionError, TypeError) as error:  # as models refuse a size, or do not know img_size
        raise ValueError(
            f"{architecture} cannot be built for {size} pixels ({error or 'no reason given'}); set its input to "
            "architecture or choose another model."
        ) from error
    head = backbone.pretrained_cfg["classifier"]
    if not isinstance(head, str):
        raise ValueError(f"{architecture} has several heads ({', '.join(head or ())}), not one; choose another model.")
    return {
        "backbone": backbone,
        "head": head,
        "size": size,
        "mean": said["mean"],
        "std": said["std"],
        "config": config,
    }


def _multiple_of_tokens(name: str, size: int, options: dict[str, Any]) -> int:
    """The size, or the next that the side of a token divides: a transformer would not see what is beyond its last."""
    with torch.device("meta"):
        blank: Any = timm.create_model(name, **{**options, "img_size": size})
    side = getattr(getattr(blank, "patch_embed", None), "patch_size", 1)  # a number or two, as the model likes
    side = side if isinstance(side, int) else side[0]
    return -(-size // side) * side
