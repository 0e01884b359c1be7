"""A network over a split, batch by batch -> logits."""

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pcam_agreement.networks.classifier import to_float

BATCH_SIZE = 128  # patches; it changes time and memory, and logits in their last digits


def to_device(patches: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [n, 96, 96, 3] -> float32 [n, 3, 96, 96] in [0, 1]; bytes travel, the device converts. Or features."""
    return to_float(torch.from_numpy(np.array(patches)).to(device))


@torch.inference_mode()
def network_logits(
    network: nn.Module, patches: np.ndarray, device: torch.device, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """The logits float32 [n] of patches uint8 [n, 96, 96, 3], in their order, of a network in eval mode.

    Or of features, of a head (`training.features`).
    """
    starts = tqdm(range(0, len(patches), batch_size), desc="logits", unit="batch", disable=None, leave=False)
    batches = [network(to_device(patches[start : start + batch_size], device)).cpu() for start in starts]
    return torch.cat(batches).numpy()
