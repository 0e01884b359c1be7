"""Checkpoints: a classifier's parameters and what is needed to rebuild it, as safetensors, which can run no code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pcam_agreement.core.files import atomic_file
from pcam_agreement.networks.classifier import Classifier, blank_classifier
from pcam_agreement.networks.weights import last_line, load_state


def save_checkpoint(classifier: Classifier, path: Path) -> None:
    """Write a classifier; the same one gives the same bytes."""
    rebuild: dict[str, Any] = {
        "architecture": classifier.architecture,
        "input": classifier.input_size,
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
    }
    if classifier.config is not None:
        rebuild["config"] = classifier.config  # so that neither hub nor folder is needed again
    state = {name: tensor.contiguous() for name, tensor in classifier.backbone.state_dict().items()}
    with atomic_file(path, sum(tensor.nbytes for tensor in state.values())) as partial:
        # One metadata key only: safetensors does not keep the order of several.
        save_file(state, partial, {"network": json.dumps(rebuild)})


def read_checkpoint(path: Path) -> Classifier:
    """The classifier in a checkpoint, in eval mode.

    Raises ValueError where the file is missing or is not a checkpoint of `save_checkpoint`.
    """
    if not path.exists():
        raise ValueError(f"the checkpoint {path} is missing; run the train stage or dvc pull.")
    try:
        with safe_open(path, "pt") as file:
            rebuild = json.loads((file.metadata() or {})["network"])
        classifier = blank_classifier(rebuild["architecture"], rebuild["input"], rebuild.get("config"))
        for name in ("mean", "std"):
            classifier.register_buffer(name, torch.tensor(rebuild[name]).view(1, 3, 1, 1), persistent=False)
        # Assigned, as a blank classifier may have no memory; copies, as a file's are not aligned for the processor.
        load_state(classifier.backbone, {name: tensor.clone() for name, tensor in load_file(path).items()}, assign=True)
    except (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of this project ({last_line(error)}); train it again.") from error
    return classifier
