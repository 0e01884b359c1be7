"""A network as somebody publishes it: a folder in timm's format."""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

# What config.json says of pathology foundation models, as far as it matters: others quote it.
_SCALED = {"img_size": 224, "init_values": 1e-5, "num_classes": 0}
_VIRCHOW = {**_SCALED, "reg_tokens": 4, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True}
_GIGAPATH = {**_SCALED, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334}
_AT_224 = {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FOUNDATION = {
    f"hf-hub:{name}": {"architecture": architecture, "model_args": arguments, "pretrained_cfg": _AT_224}
    for name, architecture, arguments in (
        ("1aurent/vit_small_patch8_224.lunit_dino", "vit_small_patch8_224", {}),
        ("1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms", "vit_base_patch8_224", {}),
        ("1aurent/vit_base_patch16_224.owkin_pancancer", "vit_base_patch16_224", {}),
        ("MahmoodLab/UNI", "vit_large_patch16_224", {}),
        ("MahmoodLab/UNI2-h", "vit_giant_patch14_224", {}),
        ("paige-ai/Virchow2", "vit_huge_patch14_224", _VIRCHOW),
        ("bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", {}),
        ("prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", _GIGAPATH),
    )
}
AS_PIXELS = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "input_size": [3, 96, 96]}


def publish(
    folder: Path,
    name: str,
    classes: int = 2,
    described: dict | None = None,
    state: torch.nn.Module | None = None,
    **options,
) -> torch.nn.Module:
    """Save a network with random weights as its authors would; options: arguments of the model.

    state: the network, where the options that are written do not say all of it.
    """
    torch.manual_seed(0)
    model = state or timm.create_model(name, num_classes=classes, **options).eval()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": name,
        "num_classes": classes,
        "model_args": options,
        "pretrained_cfg": described or AS_PIXELS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return model
