"""Batches: every patch once, whoever reads it and wherever it lies."""

from itertools import chain

import numpy as np
import pytest
import torch
from lightning import Trainer

from pcam_agreement.data.pcam import read_split
from pcam_agreement.training.batches import InOrder, Shuffled, Source

CPU = torch.device("cpu")


def numbered(count: int) -> Source:
    """Patches of a single pixel whose colours are their number."""
    patches = np.arange(count, dtype=np.uint8).repeat(3).reshape(count, 1, 1, 3)
    return Source(patches, np.arange(count) % 2, np.arange(count), "memmap", CPU)


def shuffled(source: Source, processes: int, accumulate: int, epoch: int = 0, done: int = 0) -> list[Shuffled]:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit_loop.epoch_progress.current.completed = epoch
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = done
    parts = processes * accumulate
    return [Shuffled(source, 16, 0, rank * accumulate, accumulate, parts, trainer) for rank in range(processes)]


def seen(batches) -> list[list[int]]:
    return [patches[:, 0, 0, 0].tolist() for patches, _, _ in batches]


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_a_batch_is_the_same_patches_however_many_parts_it_is_divided_into(processes, accumulate):
    source = numbered(44)  # two batches, and 12 patches that are left out
    (whole,) = shuffled(source, 1, 1)
    of_processes = [list(one) for one in shuffled(source, processes, accumulate)]
    expected = seen(whole)
    assert len(set(chain(*expected))) == 32
    for number, batch in enumerate(expected):
        parts = [part for own in of_processes for part in own[number * accumulate : (number + 1) * accumulate]]
        assert list(chain(*seen(parts))) == batch
        assert [start for _, _, (start, _) in parts] == np.cumsum([0, *map(len, seen(parts))])[:-1].tolist()
        assert {length for _, _, (_, length) in parts} == {len(batch)}
        assert min(map(len, seen(parts))) >= 2
        for patches, labels, _ in parts:
            assert (labels == patches[:, 0, 0, 0] % 2).all()


def test_fewer_patches_than_a_batch_are_one_batch():
    for own in shuffled(numbered(13), 2, 3):
        assert [len(patches) for patches in seen(own)] in ([2, 2, 2], [2, 2, 3])


def test_an_epoch_has_its_own_order_and_goes_on_where_it_stopped():
    source = numbered(45)
    first, second = (seen(shuffled(source, 1, 1, epoch)[0]) for epoch in (0, 1))
    assert first != second
    assert seen(shuffled(source, 1, 1, 0)[0]) == first
    assert seen(shuffled(source, 1, 1, 0, done=2)[0]) == first[2:]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_validate_every_patch_once_in_the_batches_of_one(count):
    source = numbered(45)  # three batches: for two processes an unequal number
    alone = seen(InOrder(source, 16, 0, 1))
    shared = [seen(InOrder(source, 16, rank, count)) for rank in range(count)]
    assert list(chain(*alone)) == list(range(45))
    assert sorted(chain(*shared)) == alone
    assert [len(InOrder(source, 16, rank, count)) for rank in range(count)] == list(map(len, shared))


def test_patches_are_the_same_wherever_they_lie(dataset):
    split, index = read_split(dataset, "train"), np.array([3, 4, 9, 20, 31])
    chosen = {}
    for placement in ("device", "ram", "memmap", "auto"):
        source = Source(split.patches, split.labels, index, placement, CPU)
        patches, labels = source.gather(np.array([4, 0, 2]))
        assert patches.dtype == torch.uint8
        np.testing.assert_array_equal(patches, split.patches[[31, 3, 9]])
        np.testing.assert_array_equal(labels, split.labels[[31, 3, 9]])
        chosen[placement] = source.placement
    assert chosen == {"device": "device", "ram": "ram", "memmap": "memmap", "auto": "ram"}


def test_the_file_stays_where_it_is_if_memory_is_short():
    terabytes = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (10**11, 96, 96, 3), (0, 0, 0, 1))
    assert Source(terabytes, np.zeros(2, np.uint8), np.arange(2), "auto", CPU).placement == "memmap"
