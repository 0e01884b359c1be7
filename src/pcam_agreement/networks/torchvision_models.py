"""torchvision's classifiers, with what its registry knows of them; all that is special about a family is here."""

from typing import Any

from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from pcam_agreement.core.patch import PATCH
from pcam_agreement.networks.architectures import check_architecture

# Heads that crash in train mode on small patches and that nothing here uses.
AUXILIARY_HEADS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def build_backbone(architecture: str, pretrained: bool, input_size: str) -> dict[str, Any]:
    """The arguments of a Classifier: the backbone with a new head of one output, the name of that head, and the
    size, mean and deviation of torchvision's default weights.

    pretrained: with those weights, else with random ones from torch's global generator.

    Raises ValueError for an unknown architecture and for one that cannot be built for this size.
    """
    check_architecture(architecture)
    weights = models.get_model_weights(architecture).DEFAULT
    preset = weights.transforms()
    size = PATCH if input_size == "native" else preset.crop_size[0]
    mean, std = preset.mean, preset.std
    auxiliary = AUXILIARY_HEADS.get(architecture, ())
    options = {"init_weights": True} if auxiliary and not pretrained else {}
    backbone: Any = models.get_model(architecture, weights=weights if pretrained else None, **options)
    if auxiliary:
        # Their weights expect [-1, 1]; torchvision's switch for that (transform_input) is turned off instead.
        backbone.aux_logits, backbone.transform_input = False, False
        mean = std = [0.5, 0.5, 0.5]
        for name in auxiliary:
            setattr(backbone, name, None)
    if isinstance(backbone, models.VisionTransformer) and size != backbone.image_size:
        backbone = _vision_transformer(architecture, backbone, size)
    if isinstance(backbone, models.SqueezeNet):
        backbone.classifier[2] = nn.Identity()  # a ReLU behind the head: no logit would be negative
    # The head is the last layer with weights, in all of torchvision's classifiers.
    layers = {name: module for name, module in backbone.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    head, layer = list(layers.items())[-1]
    backbone.set_submodule(
        head, nn.Linear(layer.in_features, 1) if isinstance(layer, nn.Linear) else nn.Conv2d(layer.in_channels, 1, 1)
    )
    return {"backbone": backbone, "head": head, "size": size, "mean": mean, "std": std}


def _vision_transformer(architecture: str, backbone: Any, size: int) -> nn.Module:
    """The same transformer for inputs of another size: its position embeddings are interpolated."""
    if size % backbone.patch_size:
        raise ValueError(
            f"{architecture} cannot take patches of {size} pixels, no multiple of its tokens' {backbone.patch_size}; "
            "set its input to architecture."
        )
    state = interpolate_embeddings(size, backbone.patch_size, backbone.state_dict())
    resized = models.get_model(architecture, image_size=size)
    resized.load_state_dict(state)
    return resized
