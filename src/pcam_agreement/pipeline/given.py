"""Weights in files on this disk, which DVC does not watch: whether one is another since a network was made of it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pcam_agreement.core.files import sha256
from pcam_agreement.networks.hub import given_file
from pcam_agreement.networks.recipes import networks, recipes


def of_stage(stage: Any) -> str:
    """`replaced` for the checkpoint that a stage of DVC's has written, where it has."""
    from dvc.dependency import param

    outs = [path for out in stage.outs if (path := Path(out.fs_path)).suffix == ".safetensors" and path.exists()]
    return "".join(replaced(param.load_path("params.yaml", stage.repo.fs), path) for path in outs)


def replaced(raw: Mapping[str, Any], checkpoint: Path) -> str:
    """A sentence where the network of a checkpoint, <recipe>/<training>.safetensors, was made of other weights than
    the file has now; where it was not, or the file is gone, nothing.
    """
    names = checkpoint.parent.name, checkpoint.stem
    of_recipe = [network for network in networks(raw) if network.recipe == names[0] and network.trained]
    network = next((network for network in of_recipe if network.training == names[1]), None)
    if network is None:
        return ""
    recipe = recipes(raw, [network.recipe])[network.recipe]
    path = given_file(network.architecture, str(recipe["weights"]).replace("{training}", network.training))
    if path is None or not path.is_file():
        return ""
    with safe_open(checkpoint, "numpy") as file:
        then = json.loads((file.metadata() or {})["network"]).get("file_sha256")
    if then is None or then == _sha256(path, path.stat().st_mtime_ns):
        return ""
    concerned = [network] if "{training}" in str(recipe["weights"]) else of_recipe
    stages = [f"features@{network.recipe}", *(f"train@{network.name}" for network in concerned)]
    return (
        f"{path} has changed since {network.name} was made of it, which DVC does not watch; put it back, or run "
        f"dvc repro --force --single-item {' '.join(stages)} and then again."
    )


@cache
def _sha256(path: Path, changed: int) -> str:
    """Once a run for all trainings of a recipe: files can have gigabytes."""
    return sha256(path)
