"""A network as somebody publishes it: a folder in timm's format."""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

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
