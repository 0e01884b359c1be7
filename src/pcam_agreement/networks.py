"""Classifiers that take raw patches: build, save and load them; nothing that is loaded can run code."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pcam_agreement.architectures import NETWORKS
from pcam_agreement.names import check_architecture
from pcam_agreement.pcam import PATCH

# torchvision reads its published weights with torch.load: hold it to tensors.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

PRECISION = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Classifier(nn.Module):
    """From patches [n, 3, 96, 96] in [0, 1] to one logit each [n]; positive means tumour.

    Resizing and normalising happen inside, so that every attribution is born in patch pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        backbone: nn.Module,
        head: str,
        spatial: str,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        self.head = head
        self.spatial = spatial  # the layer of the backbone with the last map of places
        self.size = size
        self.frozen = False
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        if patches.shape[-1] != self.size:
            patches = functional.interpolate(patches, (self.size, self.size), mode="bilinear", antialias=True)
        normalised = (patches - self.mean) / self.std
        # The backbone may compute in less precision (`load`); what comes in and goes out keeps its own.
        inner = next(self.backbone.parameters()).dtype
        return self.backbone(normalised.to(inner))[:, 0].to(normalised.dtype)

    def freeze(self) -> None:
        """Train the head alone: the rest keeps its parameters and, in eval mode, its batch-norm statistics."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.get_submodule(self.head).requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


def to_float(patches: Tensor) -> Tensor:
    """uint8 [n, 96, 96, 3] as in the files -> float32 [n, 3, 96, 96] in [0, 1], where the patches are."""
    return patches.permute(0, 3, 1, 2).float().div(255).contiguous()


def build(architecture: str, weights: str, input_size: str) -> Classifier:
    """A classifier with a new one-logit head.

    weights: default (the library's published ones, downloaded once), none, or the path of a state dict of this
    architecture (.safetensors or .pth), whose head is taken where it has one output. input_size: native (96) or
    architecture (patches are resized inside the network). Random numbers come from torch's global generator.

    Raises ValueError for an unknown architecture and for weights that do not fit it.
    """
    check_architecture(architecture)
    make = _timm if architecture.startswith("timm/") else _torchvision
    classifier = make(architecture, weights == "default", input_size)
    if weights not in ("default", "none"):
        _load_weights(classifier, Path(weights))
    return classifier


def save(classifier: Classifier, path: Path) -> None:
    """Write the parameters and what is needed to rebuild the network; the same network gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rebuild = {"architecture": classifier.architecture, "native": classifier.size == PATCH}
    # One metadata key only: safetensors does not keep the order of several.
    partial = path.with_name(path.name + ".partial")
    state = {name: tensor.contiguous() for name, tensor in classifier.backbone.state_dict().items()}
    save_file(state, partial, {"network": json.dumps(rebuild)})
    partial.replace(path)


def load(path: Path, device: torch.device, precision: str = "32") -> Classifier:
    """A saved classifier, ready to be looked at: eval mode, parameters frozen, batch norms folded.

    precision: of its backbone, 32, bf16 or 16; 32 is 32 from now on also where a GPU would compute in TF32, whose
    mantissa has ten bits.

    Raises ValueError where the file is missing or is not a checkpoint of `save`.
    """
    if not path.exists():
        raise ValueError(f"the checkpoint {path} is missing; run the train stage or dvc pull.")
    try:
        with safe_open(path, "pt") as file:
            rebuild = json.loads((file.metadata() or {})["network"])
        classifier = build(rebuild["architecture"], "none", "native" if rebuild["native"] else "architecture")
        classifier.backbone.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this project ({_last_line(error)}); train it again."
        ) from error
    # channels last: 1.3 to 1.6 times the passes a second on a CPU, and what a GPU's half precision wants
    classifier.eval()
    fold_batch_norms(classifier.backbone)
    classifier = classifier.requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    classifier.backbone.to(PRECISION[precision])
    torch.backends.cudnn.allow_tf32 = False
    return classifier


def fold_batch_norms(backbone: nn.Module) -> None:
    """Make each batch norm that follows a convolution, and nothing else does, part of it: the same function.

    In eval mode. It saves a ResNet a quarter of its time on a CPU. A network that torch.fx cannot trace stays as it is.
    """
    modules = dict(backbone.named_modules())
    if nn.BatchNorm2d not in map(type, modules.values()):
        return
    try:
        calls = [node for node in fx.symbolic_trace(backbone).graph.nodes if node.op == "call_module"]
    except fx.proxy.TraceError:
        return
    times = Counter(node.target for node in calls)
    for node in calls:
        before = node.args[0]
        pair = (before.target, node.target)
        if (
            [type(modules.get(name)) for name in pair] == [nn.Conv2d, nn.BatchNorm2d]
            and len(before.users) == 1
            and all(times[name] == 1 for name in pair)
        ):
            backbone.set_submodule(pair[0], fuse_conv_bn_eval(*(modules[name] for name in pair)))
            backbone.set_submodule(pair[1], nn.Identity())


def device(choice: str, count: int = 1) -> torch.device:
    """auto takes a GPU where there is one; ValueError for cuda where there is none, and for fewer GPUs than count."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda but torch sees no GPU; set device to auto or cpu, or mend the driver.")
    if choice == "cpu" or not torch.cuda.is_available():
        _keep_freed_memory()
        return torch.device("cpu")
    if count > torch.cuda.device_count():
        raise ValueError(f"devices is {count} but torch sees {torch.cuda.device_count()} GPUs; lower it.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, products of matrices may differ
    return torch.device("cuda")


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: to get it back for the next batch took a tenth of a ResNet's gradient."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, its maximum


def _torchvision(architecture: str, pretrained: bool, input_size: str) -> Classifier:
    from torchvision import models
    from torchvision.models.vision_transformer import interpolate_embeddings

    row = NETWORKS[architecture]
    size = PATCH if input_size == "native" else row.size
    options: dict = {"init_weights": True} if architecture == "inception_v3" and not pretrained else {}
    backbone = models.get_model(architecture, weights=row.weights if pretrained else None, **options)
    if architecture == "inception_v3":
        # The auxiliary head crashes in train mode below 299 pixels, and nothing here uses it.
        backbone.aux_logits, backbone.AuxLogits, backbone.transform_input = False, None, False
    if architecture == "vit_b_16" and size != row.size:
        state = interpolate_embeddings(size, backbone.patch_size, backbone.state_dict())
        backbone = models.get_model(architecture, image_size=size)
        backbone.load_state_dict(state)
    old = backbone.get_submodule(row.head)
    backbone.set_submodule(row.head, nn.Linear(old.in_features, 1))
    return Classifier(architecture, backbone, row.head, row.spatial, size, row.mean, row.std)


def _timm(architecture: str, pretrained: bool, input_size: str) -> Classifier:
    import timm

    name = architecture.removeprefix("timm/")
    published = timm.get_pretrained_cfg(name)
    assert published is not None, f"timm describes no weights for {name}"
    if pretrained and not published.has_weights:
        raise ValueError(f"timm has no weights for {name}; set its weights to none or a path.")
    size = PATCH if input_size == "native" else published.input_size[-1]
    options: dict[str, Any] = {"img_size": size} if published.fixed_input_size else {}
    backbone: Any = timm.create_model(name, pretrained=pretrained, num_classes=1, **options)
    head, spatial = backbone.pretrained_cfg["classifier"], backbone.feature_info[-1]["module"]
    if not isinstance(head, str):
        raise ValueError(f"{architecture} has several heads ({', '.join(head)}), not one; choose another model.")
    if hasattr(backbone, "blocks") and hasattr(backbone, "cls_token"):
        spatial += ".norm1"  # behind it, the patch tokens of the last block have no say in the class token
    return Classifier(architecture, backbone, head, spatial, size, published.mean, published.std)


def _load_weights(classifier: Classifier, path: Path) -> None:
    if not path.exists():
        raise ValueError(f"the weights {path} are missing; give a path that exists, default or none.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # what is not such a file fails in any way
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.") from error
    if not (isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())):
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.")
    own = classifier.backbone.state_dict()
    head = classifier.head + "."
    for name in list(state):
        other_head = name.startswith(head) and name in own and own[name].shape != state[name].shape
        if name.startswith("AuxLogits.") or other_head:
            del state[name]
    kept = {name: tensor for name, tensor in own.items() if name.startswith(head) and name not in state}
    try:
        classifier.backbone.load_state_dict({**state, **kept})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {classifier.architecture}: {_last_line(error)}.") from error


def _last_line(error: Exception) -> str:
    return (str(error).split("\n") or [type(error).__name__])[-1].strip().removesuffix(".")
