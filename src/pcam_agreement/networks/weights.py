"""Starting weights from a file: a state dict of tensors, which can run no code."""

import hashlib
import sys
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def load_weights(
    backbone: nn.Module, head: str, architecture: str, path: Path, new_head: bool = True, tumour_class: int = 1
) -> tuple[bool, str]:
    """Load a state dict (.safetensors, .pth, or Lightning's .ckpt) into a backbone with one output.

    Its names may have a common prefix (module., model., …), its numbers any precision, and a transformer's position
    embeddings any size. new_head: a head that is missing or of another shape keeps its random weights; else it must
    have one output, or two, of which `tumour_class` is the tumour's: the logit is the difference. Returns whether the
    head kept random weights, and the SHA-256 of all tensors of the file but the head's.

    Raises ValueError where the file is missing, holds more than tensors or does not fit the architecture.
    """
    expected = backbone.state_dict()
    state = _without_prefix(_read_state(path), expected)
    for name in list(state):
        if getattr(backbone, name.split(".")[0], backbone) is None:  # an auxiliary head
            del state[name]
    digest = tensors_sha256(state, head.removesuffix(".1"))
    of_head = [name for name in expected if name.startswith(f"{head}.")]
    if head.endswith(".1"):  # behind chosen pooling (`timm_models`): the published head is for other features
        for end in ("weight", "bias"):
            state.pop(f"{head.removesuffix('.1')}.{end}", None)
    if not new_head:
        _to_one_output(state, of_head, tumour_class, path)
    for name in of_head:
        if name in state and state[name].shape != expected[name].shape:
            del state[name]
    try:
        load_state(backbone, {**_resampled(state, backbone), **{n: expected[n] for n in of_head if n not in state}})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit {architecture}: {last_line(error)}.") from error
    return not all(name in state for name in of_head), digest


def tensors_sha256(state: Mapping[str, Tensor], head: str) -> str:
    """The SHA-256 over tensors by their names, whatever file they came from; but for those of a head."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not name.startswith(f"{head}."):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ValueError(f"the weights {path} are missing; give a path that exists, default or none.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # what is not such a file fails in any way
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):  # Lightning's, beside the optimiser's
        state = state["state_dict"]
    if not (isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())):
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.")
    return dict(state)


def _without_prefix(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the prefix that most of the expected names have in it; what lacks the prefix is no weight."""
    prefixes = Counter(name.removesuffix(end) for end in expected for name in state if name.endswith(end))
    prefix = max(prefixes, key=lambda prefix: (prefixes[prefix], -len(prefix)), default="")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _to_one_output(state: dict[str, Tensor], of_head: list[str], tumour_class: int, path: Path) -> None:
    """Make one output of a head's two, in place: the logit of a softmax of two is their difference."""
    for name in of_head:
        if name not in state:
            raise ValueError(f"{path} has no head ({name}), and without epochs none is trained; add it or set epochs.")
        count = len(state[name])
        if count == 2:
            state[name] = (state[name][tumour_class] - state[name][1 - tumour_class])[None]
        elif count != 1:
            raise ValueError(
                f"the head in {path} has {count} outputs, and a network that is taken as it is needs one or two; set "
                "epochs to train a head of its own."
            )


def _resampled(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The state as timm's own loading of this model takes it, position embeddings for this size among it."""
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    return convert(state, backbone) if convert else state


def load_state(backbone: nn.Module, state: Mapping[str, Tensor], assign: bool = False) -> None:
    """Load all tensors of a state dict, which must be those of the backbone (RuntimeError).

    assign: take the tensors themselves rather than their values.
    """
    versioned: OrderedDict = OrderedDict(state)
    # Which a file of tensors alone does not hold, and MNASNet asks for.
    versioned._metadata = {"": {"version": backbone._version}}  # type: ignore[attr-defined]
    backbone.load_state_dict(versioned, assign=assign)


def last_line(error: Exception) -> str:
    """What an exception says at its end, without the full stop; its type where it says nothing."""
    return (str(error).strip().split("\n")[-1].strip() or type(error).__name__).removesuffix(".")
