"""Starting weights from a file: a state dict of tensors, which can run no code."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def load_weights(backbone: nn.Module, head: str, architecture: str, path: Path, new_head: bool = True) -> None:
    """Load a state dict (.safetensors or .pth) into a backbone.

    new_head: a head that is missing or of another shape keeps its random weights; else it is an error.

    Raises ValueError where the file is missing, holds more than tensors or does not fit the architecture.
    """
    if not path.exists():
        raise ValueError(f"the weights {path} are missing; give a path that exists, default or none.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # what is not such a file fails in any way
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.") from error
    if not (isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())):
        raise ValueError(f"{path} is not a state dict of tensors alone; save it anew, as safetensors.")
    expected = backbone.state_dict()
    for name in list(state):
        removed = getattr(backbone, name.split(".")[0], backbone) is None  # an auxiliary head
        other_head = name.startswith(f"{head}.") and name in expected and expected[name].shape != state[name].shape
        if removed or other_head:
            del state[name]
    kept = {name: tensor for name, tensor in expected.items() if name.startswith(f"{head}.") and name not in state}
    if kept and not new_head:
        raise ValueError(f"{path} has no head of one logit ({head}), and without epochs none is trained; add it.")
    try:
        load_state(backbone, {**state, **kept})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {architecture}: {last_line(error)}.") from error


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
