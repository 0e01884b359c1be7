"""timm's models, with what their published configuration says of them."""

from typing import Any

import timm

from pcam_agreement.core.patch import PATCH
from pcam_agreement.networks.architectures import check_architecture


def build_backbone(architecture: str, pretrained: bool, input_size: str) -> dict[str, Any]:
    """The arguments of a Classifier for timm/<name>[.<weights>], as `torchvision_models.build_backbone` gives them.

    Raises ValueError for a model that timm does not have, that has no such weights, that cannot be built for this
    size, or that has several heads.
    """
    check_architecture(architecture)
    name = architecture.removeprefix("timm/")
    published = timm.get_pretrained_cfg(name)
    if published is None:
        raise ValueError(f"timm knows neither size nor mean of {name}; choose another model.")
    if pretrained and not published.has_weights:
        raise ValueError(f"timm has no weights for {name}; set its weights to none or a path.")
    size = PATCH if input_size == "native" else published.input_size[-1]
    options: dict[str, Any] = {"img_size": size} if published.fixed_input_size else {}
    try:
        backbone: Any = timm.create_model(name, pretrained=pretrained, num_classes=1, **options)
    except (AssertionError, TypeError) as error:  # as models refuse a size, or do not know img_size
        raise ValueError(
            f"{architecture} cannot be built for {size} pixels ({error or 'no reason given'}); set its input to "
            "architecture or choose another model."
        ) from error
    head = backbone.pretrained_cfg["classifier"]
    if not isinstance(head, str):
        raise ValueError(f"{architecture} has several heads ({', '.join(head or ())}), not one; choose another model.")
    return {"backbone": backbone, "head": head, "size": size, "mean": published.mean, "std": published.std}
