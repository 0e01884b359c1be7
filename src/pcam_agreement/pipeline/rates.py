"""How fast this machine sends patches through a recipe's network, measured in seconds: random patches and weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import binary_cross_entropy_with_logits

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.load import PRECISION, fold_batch_norms
from pcam_agreement.networks.classifier import Classifier, build_classifier
from pcam_agreement.training.augmentation import augment, random_numbers
from pcam_agreement.training.features import AUTOCAST
from pcam_agreement.training.settings import Recipe

CHEAPEST = 2  # patches, the smallest batch that a batch norm can be trained on


@dataclass(frozen=True)
class Rates:
    """Of one network. Patches a second: forward, gradient (forward and backward to the pixels) and training step.

    parameters: how many; checkpoint: bytes of a whole one, and head of one that holds the head alone; memory: bytes of
    a training step at the recipe's batch size, and explaining of a gradient at that of `explain`.
    """

    forward: float
    gradient: float
    step: float
    parameters: int
    checkpoint: int
    head: int
    memory: int
    explaining: int


def measure(recipe: Recipe, explanation: Explanation, device: torch.device, seconds: float) -> Rates:
    """The rates of a recipe's network at its own batch sizes, or at the largest that a third of these seconds allow.

    Raises torch.OutOfMemoryError where a batch does not fit into a GPU.
    """
    network = build_classifier(
        recipe.architecture, "none", recipe.input, pooling=recipe.pooling, options=recipe.options.items()
    )
    if recipe.freeze:
        network.freeze(recipe.unfreeze)
    network.to(device).to(memory_format=torch.channels_last)
    state = network.backbone.state_dict()
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    share = recipe.batch_size // recipe.shares
    patches = torch.rand(max(share, explanation.batch_size), 3, PATCH, PATCH, device=device)
    step = _step(network, recipe, patches)
    activations = _saved(step, 2 * CHEAPEST) - _saved(step, CHEAPEST)
    torch.backends.cudnn.allow_tf32 = True  # as in training
    of_step = _rate(step, share, seconds, device)
    torch.backends.cudnn.allow_tf32 = False  # as in inference.load
    network.eval().requires_grad_(False)
    fold_batch_norms(network.backbone)
    network.to(memory_format=torch.channels_last).backbone.to(PRECISION[explanation.precision])
    score = make_score(network, torch.zeros(1, device=device), "tumour", "logit")
    rows = torch.zeros(len(patches), dtype=torch.int64, device=device)

    def forward(size: int) -> None:
        with torch.no_grad():
            score(patches[:size], rows[:size])

    return Rates(
        forward=_rate(forward, explanation.batch_size, seconds, device),
        gradient=_rate(
            lambda size: gradient(score, patches[:size], rows[:size]), explanation.batch_size, seconds, device
        ),
        step=of_step,
        parameters=parameters,
        checkpoint=sum(tensor.nbytes for tensor in state.values()),
        head=sum(tensor.nbytes for name, tensor in state.items() if name.startswith(f"{network.head}.")),
        memory=4 * parameters + 12 * trained + activations // CHEAPEST * share,
        explaining=4 * parameters + activations // CHEAPEST * explanation.batch_size,
    )


def _step(network: Classifier, recipe: Recipe, patches: torch.Tensor) -> Callable[[int], None]:
    """A step of training on so many of the patches, as Lightning takes it."""
    optimiser = torch.optim.AdamW([each for each in network.parameters() if each.requires_grad], 1e-6, fused=True)
    network.train()

    def step(size: int) -> None:
        with torch.autocast(patches.device.type, AUTOCAST.get(recipe.precision), enabled=recipe.precision != "32"):
            random = random_numbers(size, 0)
            logits = network(augment(patches[:size], random, recipe.flips, recipe.quarter_turns, recipe.stain_jitter))
            binary_cross_entropy_with_logits(logits.float(), torch.ones_like(logits).float()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _saved(work: Callable[[int], Any], size: int) -> int:
    """Bytes that autograd keeps for the way back."""
    storages: dict[int, tuple[int, Any]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes(), tensor  # kept, so that no other one has its address
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        work(size)
    return sum(size for size, _ in storages.values())


def _rate(work: Callable[[int], Any], most: int, seconds: float, device: torch.device) -> float:
    """Patches a second of work(size), in batches of at most so many."""
    size, end = min(CHEAPEST, most), time.perf_counter() + seconds
    while _seconds(work, size, device) * 4 < seconds / 3 and size < most:  # a first time, which takes longer
        size = min(4 * size, most)
    spent = [_seconds(work, size, device)]
    while time.perf_counter() < end:
        spent.append(_seconds(work, size, device))
    return size / min(spent)


def _seconds(work: Callable[[int], Any], size: int, device: torch.device) -> float:
    start = time.perf_counter()
    work(size)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
