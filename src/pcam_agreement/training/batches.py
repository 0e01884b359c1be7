"""Batches for training and validation, gathered as bytes from where the patches lie: device, memory or file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor

from pcam_agreement.networks.device import send
from pcam_agreement.training.settings import Training

Batch = tuple[Tensor, Tensor, tuple[int, int]]


class Source:
    """Chosen patches with their labels, placed; `gather` gives a batch of them on the device.

    patches: uint8 [N, 96, 96, 3], perhaps memory-mapped, or features of them, float32 [N, ...]; labels: uint8 [N];
    index: which of them, [n].
    placement: device, ram (read once, in order, into the page cache, which all processes of a machine share), memmap
    (read when asked for), or auto: the first of them that takes at most half of what memory is free there.
    """

    def __init__(
        self, patches: np.ndarray, labels: np.ndarray, index: np.ndarray, placement: str, device: torch.device
    ) -> None:
        self.patches, self.index, self.device = patches, index, device
        self.labels = torch.from_numpy(np.array(labels[index])).to(device)
        self.placement = self._chosen() if placement == "auto" else placement
        if self.placement == "device":
            kind = torch.from_numpy(patches[index[:0]]).dtype
            self.on_device = torch.empty((len(index), *patches.shape[1:]), dtype=kind, device=device)
            for start in range(0, len(index), 4096):
                block = patches[index[start : start + 4096]]
                self.on_device[start : start + len(block)] = torch.from_numpy(block)
        elif self.placement == "ram":
            patches.reshape(-1).view(np.uint8)[::4096].max(initial=0)  # one byte a page brings all of them in

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """The patches [b, 96, 96, 3] or features, and labels uint8 [b], of these numbers (below n), on the device."""
        where = send(torch.from_numpy(numbers), self.device)
        if self.placement == "device":
            return self.on_device.index_select(0, where), self.labels[where]
        return send(torch.from_numpy(self.patches[self.index[numbers]]), self.device), self.labels[where]

    def _chosen(self) -> str:
        size = self.patches[:1].nbytes
        # On a CPU the file in the page cache is all that a copy would be.
        if self.device.type == "cuda" and len(self.index) * size <= torch.cuda.mem_get_info(self.device)[0] / 2:
            return "device"
        return "ram" if len(self.patches) * size <= psutil.virtual_memory().available / 2 else "memmap"


@dataclass(frozen=True)
class Shuffled:
    """The batches of an epoch in an order that depends on the seed and the epoch alone.

    A batch is divided into `shares`, `accumulate` of them for each process; `first` is the first of this process. With
    a share comes where it begins in the batch, and the batch's length. A last batch that is not full is left out, where
    there is another: it would be too small for some number of shares, and the next epoch leaves out other patches.
    """

    source: Source
    batch_size: int
    seed: int
    first: int
    accumulate: int
    shares: int
    trainer: Trainer

    def __len__(self) -> int:
        return max(1, len(self.source) // self.batch_size) * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        order = np.random.default_rng((self.seed, self.trainer.current_epoch)).permutation(len(self.source))
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready  # by a run that was interrupted
        yield from _ahead(self.source, [self._share(order, number) for number in range(done, len(self))])

    def _share(self, order: np.ndarray, number: int) -> tuple[np.ndarray, tuple[int, int]]:
        batch, share = divmod(number, self.accumulate)
        whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        start, stop = (len(whole) * (self.first + share + end) // self.shares for end in (0, 1))
        return whole[start:stop], (start, len(whole))


@dataclass(frozen=True)
class InOrder:
    """Every patch once in all processes together: of the batches, this one's are every `count`-th. None is repeated."""

    source: Source
    batch_size: int
    rank: int
    count: int

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.source)
        every = (np.arange(start, min(start + self.batch_size, n)) for start in self._starts())
        yield from _ahead(self.source, [(numbers, (0, len(numbers))) for numbers in every])

    def _starts(self) -> range:
        return range(0, len(self.source), self.batch_size)[self.rank :: self.count]


def _ahead(source: Source, batches: list[tuple[np.ndarray, tuple[int, int]]]) -> Iterator[Batch]:
    """The batches; while the device computes with one of them, the next is gathered."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(source.gather, batches[0][0]) if batches else None
        for number, (_, place) in enumerate(batches, 1):
            assert coming is not None
            gathered = coming.result()
            if number < len(batches):
                coming = pool.submit(source.gather, batches[number][0])
            yield *gathered, place


class Data(LightningDataModule):
    """Batches of train (the patches of `index`) and valid for this process, once it knows its device and number."""

    def __init__(
        self,
        train: tuple[np.ndarray, np.ndarray, np.ndarray],
        valid: tuple[np.ndarray, np.ndarray, np.ndarray],
        settings: Training,
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.valid, self.settings, self.seed = train, valid, settings, seed

    def train_dataloader(self) -> Shuffled:
        settings, trainer = self.settings, self._trainer()
        source = Source(*self.train, settings.placement, trainer.strategy.root_device)
        first, shares = trainer.global_rank * settings.accumulate, trainer.world_size * settings.accumulate
        return Shuffled(source, settings.batch_size, self.seed, first, settings.accumulate, shares, trainer)

    def val_dataloader(self) -> InOrder:
        trainer = self._trainer()
        source = Source(*self.valid, self.settings.placement, trainer.strategy.root_device)
        return InOrder(source, self.settings.batch_size, trainer.global_rank, trainer.world_size)

    def _trainer(self) -> Trainer:
        assert self.trainer is not None
        return self.trainer
