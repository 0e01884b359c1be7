"""Checkpoints: a classifier's parameters and what is needed to rebuild it, as safetensors, which can run no code.

Of a frozen classifier only the head is written, and its backbone is named: where it comes from and what it must be.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pcam_agreement.core.files import atomic_file
from pcam_agreement.networks.classifier import Classifier, blank_classifier, build_classifier
from pcam_agreement.networks.weights import last_line, load_state, tensors_sha256


def save_checkpoint(classifier: Classifier, path: Path) -> None:
    """Write a classifier, a frozen one whose weights can be had again without its backbone; same bytes for the same."""
    rebuild: dict[str, Any] = {
        "architecture": classifier.architecture,
        "input": classifier.input_size,
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
    }
    if classifier.config is not None:
        rebuild["config"] = classifier.config  # so that neither hub nor folder is needed again
    if classifier.pooling != "published":
        rebuild["pooling"] = classifier.pooling
    if classifier.file_sha256:
        rebuild["file_sha256"] = classifier.file_sha256  # of the weights that it was made of
    state = {name: tensor.contiguous() for name, tensor in classifier.backbone.state_dict().items()}
    if classifier.frozen and not classifier.unfrozen and classifier.weights != "none":
        rebuild["backbone"] = {"weights": classifier.weights, "sha256": backbone_sha256(classifier)}
        state = {name: tensor for name, tensor in state.items() if name.startswith(f"{classifier.head}.")}
    with atomic_file(path, sum(tensor.nbytes for tensor in state.values())) as partial:
        # One metadata key only: safetensors does not keep the order of several.
        save_file(state, partial, {"network": json.dumps(rebuild)})


def read_checkpoint(path: Path) -> Classifier:
    """The classifier in a checkpoint, in eval mode.

    Raises ValueError where the file is missing or is not a checkpoint of `save_checkpoint`; and where the weights of a
    frozen backbone cannot be had, or are others than those that its head was trained on.
    """
    if not path.exists():
        raise ValueError(f"the checkpoint {path} is missing; run the train stage or dvc pull.")
    try:
        with safe_open(path, "pt") as file:
            rebuild = json.loads((file.metadata() or {})["network"])
        # Copies, as a file's are not aligned for the processor.
        state = {name: tensor.clone() for name, tensor in load_file(path).items()}
        buffers = {name: torch.tensor(rebuild[name]).view(1, 3, 1, 1) for name in ("mean", "std")}
        pooling, config = rebuild.get("pooling", "published"), rebuild.get("config")
        if "backbone" not in rebuild:
            classifier = blank_classifier(rebuild["architecture"], rebuild["input"], config, pooling)
            load_state(classifier.backbone, state, assign=True)  # as a blank classifier may have no memory
    except (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of this project ({last_line(error)}); train it again.") from error
    if "backbone" in rebuild:
        classifier = _with_its_backbone(rebuild, pooling, path)
        head = {name.removeprefix(f"{classifier.head}."): tensor for name, tensor in state.items()}
        try:
            classifier.head_layer().load_state_dict(head)
        except RuntimeError as error:
            raise ValueError(f"{path} does not hold the head of its network ({last_line(error)}).") from error
    classifier.file_sha256 = rebuild.get("file_sha256", "")
    for name, buffer in buffers.items():
        classifier.register_buffer(name, buffer, persistent=False)
    return classifier


def backbone_sha256(classifier: Classifier) -> str:
    """The SHA-256 over the tensors of a classifier but for its head: those of the file that they came from.

    In the network some are resampled for the size of the patch, with another processor's rounding. Of published
    weights, which timm and torchvision read themselves, position embeddings are left out for that reason.
    """
    if classifier.source_sha256:
        return classifier.source_sha256
    state = classifier.backbone.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not ("pos_embed" in name or "position" in name)}
    return tensors_sha256(kept, classifier.head)


def _with_its_backbone(rebuild: dict[str, Any], pooling: str, path: Path) -> Classifier:
    """The frozen classifier whose head a checkpoint holds, in eval mode, with the backbone that it names."""
    architecture, weights, expected = rebuild["architecture"], *(rebuild["backbone"][k] for k in ("weights", "sha256"))
    options = (rebuild.get("config") or {}).get("model_args") or {}
    try:
        with torch.random.fork_rng(devices=[]):
            classifier = build_classifier(
                architecture, weights, rebuild["input"], pooling=pooling, options=options.items()
            )
    except ValueError as error:
        raise ValueError(
            f"{path} holds the head of a frozen {architecture} alone, and its backbone cannot be had: {error}"
        ) from error
    classifier.eval().freeze()
    found = backbone_sha256(classifier)
    if found != expected:
        raise ValueError(
            f"{path} holds a head that was trained on a frozen {architecture} with the SHA-256 {expected[:12]}…, and "
            f"its weights ({weights}) now have {found[:12]}…; put back those of then, or train it again."
        )
    return classifier
