"""Batches through a network: as large as was asked for, halved where the device runs out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

WORTH = 1.03  # a batch twice as large must be this much faster, a patch, to be taken


class Batch:
    """How many inputs go through the network at once. Running out of memory halves `size` for good."""

    def __init__(self, size: int) -> None:
        self.size = size

    def each(self, count: int, device: torch.device, work: Callable[[Tensor], None]) -> None:
        """Call work with the numbers from 0 to count - 1, in order, a batch at a time, on the device.

        Work that runs out of memory is called again with half as many: it must write its results last.
        """
        start = 0
        while start < count:
            # Batches of nearly the same size: a small last one would be a slow one.
            left = count - start
            size = -(-left // -(-left // self.size))
            part = torch.arange(start, start + size, device=device)
            try:
                work(part)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                self.size = size // 2
                torch.cuda.empty_cache()
                continue
            start += size


def fastest(work: Callable[[int], None], most: int = 4096) -> tuple[int, float]:
    """The batch size, a power of two from 8, at which work(size) is fastest or nearly so; its rate, patches a second.

    Stops where doubling does not pay or memory ends. The answer depends on the machine and its load: remember it.
    """
    best, best_rate, size = 8, 0.0, 8
    while size <= most:
        try:
            work(size)
            seconds = min(_seconds(work, size) for _ in range(2))
        except torch.OutOfMemoryError:
            break
        if size / seconds < best_rate * WORTH:
            break
        best, best_rate = size, size / seconds
        size *= 2
    return best, best_rate


def _seconds(work: Callable[[int], None], size: int) -> float:
    start = time.perf_counter()
    work(size)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
