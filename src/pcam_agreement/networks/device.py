"""The device that a stage computes on, and its memory."""

import ctypes
import os
import sys

import torch


def choose_device(choice: str, count: int = 1) -> torch.device:
    """auto takes a GPU where there is one. From now on torch computes deterministically, on any device.

    Raises ValueError for cuda where there is none, and for fewer GPUs than count.
    """
    _compute_deterministically()
    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda but torch sees no GPU; set device to auto or cpu, or mend the driver.")
    if choice == "cpu" or not torch.cuda.is_available():
        _keep_freed_memory()
        return torch.device("cpu")
    if count > torch.cuda.device_count():
        raise ValueError(f"devices is {count} but torch sees {torch.cuda.device_count()} GPUs; lower it.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, products of matrices may differ
    # Fused attention sums gradients in any order where torch is asked to warn and not to fail; at the few tokens of a
    # patch products of matrices cost little more.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda")


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; from pinned memory a copy does not wait for what a GPU still computes."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _compute_deterministically() -> None:
    """Have torch take deterministic algorithms, and warn where there is none, without filling memory beforehand.

    No code of this package reads memory that was not written; filling it took 7 % of a DenseNet's gradient.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: to get it back for the next batch took a tenth of a ResNet's gradient."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, its maximum
