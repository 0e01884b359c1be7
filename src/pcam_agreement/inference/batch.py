"""Batches through a network: as large as was asked for, halved where the device runs out of memory."""

from collections.abc import Callable

import torch
from torch import Tensor


class Batch:
    """How many inputs go through the network at once. Running out of memory halves `size` for good."""

    def __init__(self, size: int) -> None:
        self.size = size

    def each(self, count: int, device: torch.device, work: Callable[[Tensor], None], inputs: int = 1) -> None:
        """Call work with the numbers from 0 to count - 1, in order, a batch at a time, on the device.

        inputs: that work sends through the network for each number. Work that runs out of memory is called again with
        half as many: it must write its results last.
        """
        start = 0
        while start < count:
            # Batches of nearly the same size: a small last one would be a slow one.
            remaining = count - start
            size = -(-remaining // -(-remaining // max(1, self.size // inputs)))
            rows = torch.arange(start, start + size, device=device)
            try:
                work(rows)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                self.size = size * inputs // 2
                torch.cuda.empty_cache()
                continue
            start += size
