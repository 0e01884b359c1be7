"""timm's models, by their names or by the config.json of a published network, with what is said of them there."""

from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pcam_agreement.core.names import named
from pcam_agreement.core.patch import PATCH
from pcam_agreement.networks.architectures import check_architecture
from pcam_agreement.networks.hub import is_published, read_config


def build_backbone(
    architecture: str,
    pretrained: bool,
    input_size: str,
    config: dict[str, Any] | None = None,
    pooling: str = "published",
    options: Iterable[tuple[str, Any]] = (),
) -> dict[str, Any]:
    """The arguments of a Classifier for timm/<name>[.<weights>], as `torchvision_models.build_backbone` gives them.

    config: of a published network, the content of its config.json, where it is known already. pooling: see `_pool`.
    options: arguments of the model beside those of config.json; of `mlp_layer` the name of a class in timm.layers.

    Raises ValueError for a model that timm does not have, that has no such weights, that cannot be built for this
    size, that has several heads, or that does not know the options or the pooling.
    """
    added = dict(options)
    if is_published(architecture):
        config = config or read_config(architecture)
    elif added and config is None:
        config = {"architecture": architecture.removeprefix("timm/")}
    if added and config is not None:
        config = {**config, "model_args": {**(config.get("model_args") or {}), **added}}
    name = config["architecture"] if config else architecture.removeprefix("timm/")
    arguments = _with_layers((config or {}).get("model_args") or {})
    check_architecture(f"timm/{name}")
    published = timm.get_pretrained_cfg(name)
    if published is None:
        raise ValueError(f"timm knows neither size nor mean of {name}; choose another model.")
    if pretrained and not published.has_weights:
        raise ValueError(f"timm has no weights for {name}; set its weights to none or a path.")
    said = {**vars(published), **(config or {}).get("pretrained_cfg", config or {})}
    size = PATCH if input_size == "native" else said["input_size"][-1]
    arguments |= {"num_classes": 1}
    try:
        if published.fixed_input_size:
            size = _multiple_of_tokens(name, size, arguments)
            arguments["img_size"] = size
        backbone: Any = timm.create_model(name, pretrained=pretrained, **arguments)
    except (AssertionError, KeyError, TypeError) as error:  # as models refuse a size, a layer, or an argument
        raise ValueError(
            f"{architecture} cannot be built for {size} pixels ({error or 'no reason given'}); set its input to "
            "architecture or choose another model."
        ) from error
    head = backbone.pretrained_cfg["classifier"]
    if not isinstance(head, str):
        raise ValueError(f"{architecture} has several heads ({', '.join(head or ())}), not one; choose another model.")
    if pooling != "published":
        head = _pool(backbone, head, pooling, architecture)
    elif getattr(backbone, "global_pool", None) == "":
        raise ValueError(f"{architecture} leaves its tokens unpooled; set pooling to token, mean or token_and_mean.")
    return {
        "backbone": backbone,
        "head": head,
        "pooling": pooling,
        "size": size,
        "mean": said["mean"],
        "std": said["std"],
        "config": config,
    }


class TokenPooling(nn.Module):
    """Tokens [n, t, c], `prefix` of them before those of the patch -> what a linear head reads, [n, c] or [n, 2 c]."""

    def __init__(self, pooling: str, prefix: int) -> None:
        super().__init__()
        self.token, self.mean = pooling != "mean", pooling != "token"
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = [tokens[:, 0]] if self.token else []
        if self.mean:
            pooled.append(tokens[:, self.prefix :].mean(1))
        return torch.cat(pooled, 1)


def _pool(backbone: Any, head: str, pooling: str, architecture: str) -> str:
    """Let a transformer's head read its class token, the mean of its patch tokens, or both, behind its last norm.

    pooling: token, mean or token_and_mean; the head becomes a new one. Returns its path.

    Raises ValueError where the model is no vision transformer with such tokens.
    """
    known = all(hasattr(backbone, name) for name in ("global_pool", "fc_norm", "num_prefix_tokens"))
    if not known or getattr(backbone, "attn_pool", None) is not None or not isinstance(backbone.head, nn.Linear):
        raise ValueError(
            f"{architecture} is no vision transformer whose tokens are pooled before its head; set its pooling to "
            "published."
        )
    if pooling != "mean" and backbone.cls_token is None:
        raise ValueError(f"{architecture} has no class token for pooling {pooling}; set it to mean or published.")
    layer = TokenPooling(pooling, backbone.num_prefix_tokens)
    width = backbone.head.in_features * (layer.token + layer.mean)
    backbone.global_pool, backbone.head = "", nn.Sequential(layer, nn.Linear(width, 1))
    return f"{head}.1"


def _with_layers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model as Python takes them: JSON and YAML have names for layers where timm wants classes."""
    arguments = dict(arguments)
    layer = arguments.get("mlp_layer")
    if isinstance(layer, str):
        known = {name: kind for name, kind in vars(timm.layers).items() if "Mlp" in name or "GLU" in name}
        arguments["mlp_layer"] = named("mlp_layer", layer.rpartition(".")[2], known)
    if isinstance(arguments.get("act_layer"), str):  # timm knows these by their names
        arguments["act_layer"] = arguments["act_layer"].rpartition(".")[2]
    return arguments


def _multiple_of_tokens(name: str, size: int, options: dict[str, Any]) -> int:
    """The size, or the next that the side of a token divides: a transformer would not see what is beyond its last."""
    with torch.device("meta"):
        blank: Any = timm.create_model(name, **{**options, "img_size": size})
    side = getattr(getattr(blank, "patch_embed", None), "patch_size", 1)  # a number or two, as the model likes
    side = side if isinstance(side, int) else side[0]
    return -(-size // side) * side
