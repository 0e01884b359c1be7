"""Several processes that share the work of one stage."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Process:
    """This process among `count`: its number, its device, and how it waits for the others."""

    rank: int
    count: int
    device: torch.device
    wait: Callable[[], None]


def join(device: torch.device, devices: int, nodes: int) -> Process:
    """This process, alone or with others: those of torchrun or SLURM, else as many as devices are started here."""
    if devices * nodes == 1:
        return Process(0, 1, device, lambda: None)
    from lightning.fabric import Fabric  # takes seconds to import

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=nodes)
    fabric.launch()
    return Process(fabric.global_rank, fabric.world_size, fabric.device, fabric.barrier)
