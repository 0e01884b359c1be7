"""The last spatial map of a network, which class activation maps show: its layer and its size; tokens on their grid."""

from math import isqrt
from typing import Any

from torch import Tensor, nn

from pcam_agreement.networks.architectures import of_timm
from pcam_agreement.networks.classifier import Classifier, run_blank_patch

CAMS = "grad_cam, grad_cam_plus_plus and hires_cam"  # the methods that need such a map, for the sentences


def spatial_layer(classifier: Classifier) -> str:
    """The path, under the backbone, of the layer whose output is the last map that keeps places apart.

    Raises ValueError where there is none, or where timm says a wrong one.
    """
    backbone: Any = classifier.backbone
    if of_timm(classifier.architecture):
        layer = _timm_layer(backbone)
    elif hasattr(backbone, "class_token"):  # torchvision's vision transformers
        # Behind it, the patch tokens of the last layer do not change the class token.
        layer = f"encoder.layers.{list(backbone.encoder.layers._modules)[-1]}.ln_1"
    else:
        layer = _last_map(classifier)
    if layer is None:
        raise ValueError(f"the last map of {classifier.architecture} is not where its library says; leave {CAMS} out.")
    return layer


def spatial_size(classifier: Classifier) -> int:
    """Pixels a side of that map; the classifier may be a blank one. Raises ValueError where there is no such map."""
    maps: list[Tensor] = []
    layer = classifier.backbone.get_submodule(spatial_layer(classifier))
    handle = layer.register_forward_hook(lambda _, __, output: maps.append(output))
    try:
        run_blank_patch(classifier)
    finally:
        handle.remove()
    return on_grid(maps[0], classifier.backbone).shape[-1]


def on_grid(activation: Tensor, backbone: nn.Module) -> Tensor:
    """Channels, rows and columns [n, c, h, w]: of a map, or of tokens [n, prefix + side * side, c] on their grid.

    Raises ValueError where the tokens fill no square.
    """
    if activation.ndim == 4:
        channels_last = str(getattr(backbone, "output_fmt", "")) == "NHWC"  # some of timm's
        return activation.permute(0, 3, 1, 2) if channels_last else activation
    count = activation.shape[1]
    for prefix in (prefix_tokens(backbone), 0):  # some (CaiT) add their class token behind the last map
        side = isqrt(max(count - prefix, 0))
        if side > 0 and side * side == count - prefix:
            return activation[:, prefix:].mT.unflatten(2, (side, side))
    raise ValueError(
        f"{count} tokens of {type(backbone).__name__}, {prefix_tokens(backbone)} of them before those of the patch, "
        "fill no square; choose a method that needs no tokens."
    )


def prefix_tokens(backbone: nn.Module) -> int:
    """How many tokens come before those of the patch: class, distillation and register tokens."""
    of_torchvision = int(hasattr(backbone, "class_token"))
    return int(getattr(backbone, "num_prefix_tokens", of_torchvision))


def _timm_layer(backbone: Any) -> str | None:
    described = getattr(backbone, "feature_info", None)
    if not described:
        return None
    layer = described[-1]["module"]
    if hasattr(backbone, "blocks") and hasattr(backbone, "cls_token"):
        layer += ".norm1"  # as in torchvision's
    return layer if layer in dict(backbone.named_modules()) else None


def _last_map(classifier: Classifier) -> str | None:
    """The last layer with a map for output, before the global pooling and the head; a pooled map does not count."""
    calls: list[tuple[str, nn.Module, Any]] = []

    def record(name: str) -> Any:
        return lambda module, _, output: calls.append((name, module, output))

    modules = classifier.backbone.named_modules()
    handles = [module.register_forward_hook(record(name)) for name, module in modules if name]
    try:
        run_blank_patch(classifier)
    finally:
        for handle in handles:
            handle.remove()
    calls = calls[: [name for name, _, _ in calls].index(classifier.head)]
    adaptive = [index for index, (_, module, _) in enumerate(calls) if isinstance(module, nn.AdaptiveAvgPool2d)]
    calls = calls[: adaptive[-1]] if adaptive else calls
    pooled = [output for _, module, output in calls if "Pool" in type(module).__name__]
    layers = [
        name
        for name, module, output in calls
        if isinstance(output, Tensor) and output.ndim == 4 and not isinstance(module, nn.Dropout)
        # A Sequential that ends in pooling gives the pooled map.
        if not any(output is other for other in pooled)
    ]
    return layers[-1] if layers else None
