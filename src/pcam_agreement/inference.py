"""A network over a split, batch by batch -> logits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement.networks import to_float


def to_device(patches: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [n, 96, 96, 3] -> float32 [n, 3, 96, 96] in [0, 1]; bytes travel, the device converts."""
    return to_float(torch.from_numpy(np.array(patches)).to(device))


@torch.inference_mode()
def logits(network: nn.Module, patches: np.ndarray, batch_size: int, device: torch.device) -> np.ndarray:
    """The logits float32 [n] of patches uint8 [n, 96, 96, 3], in their order."""
    starts = tqdm(range(0, len(patches), batch_size), desc="logits", unit="batch", disable=None, leave=False)
    parts = [network(to_device(patches[start : start + batch_size], device)).cpu() for start in starts]
    return torch.cat(parts).numpy()
