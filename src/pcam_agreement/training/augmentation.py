"""Random flips, quarter turns and stain jitter of a batch, on its device."""

import functools

import torch
from torch import Tensor

from pcam_agreement.core.stains import EOSIN, HAEMATOXYLIN, RESIDUAL
from pcam_agreement.networks.device import send

STAINS = (HAEMATOXYLIN, EOSIN, RESIDUAL)


def random_numbers(n: int, seed: int) -> Tensor:
    """The random numbers of n patches, float32 [n, 6] on the CPU: the same whatever device computes with them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.rand(n, 3, generator=generator), torch.randn(n, 3, generator=generator)], 1)


def augment(patches: Tensor, random: Tensor, flips: bool, quarter_turns: bool, stain_jitter: float) -> Tensor:
    """Patches [n, 3, h, h] in [0, 1], each by its own row of `random_numbers`.

    stain_jitter: standard deviation of the logarithm of the factor on each stain's amount; 0 leaves colours alone.
    """
    n, random = len(patches), send(random, patches.device)
    patches = patches.permute(0, 2, 3, 1)  # the layout of the files, and of what is fast in a convolution
    if flips:
        for axis in (1, 2):
            turned = random[:, axis - 1] < 0.5
            patches = torch.where(turned.view(n, 1, 1, 1), patches.flip(axis), patches)
    if quarter_turns:
        turns = (4 * random[:, 2]).long().view(n, 1, 1, 1)
        for count in (1, 2, 3):
            patches = torch.where(turns == count, patches.rot90(count, (1, 2)), patches)
    if stain_jitter > 0:
        stains, inverse = _stains(patches.device)
        factors = torch.exp(stain_jitter * random[:, 3:]).view(n, 1, 3)
        density = -torch.log(patches.clamp(min=1 / 255)).flatten(1, 2)
        with torch.autocast(patches.device.type, enabled=False):  # in less precision colours are off by a grey level
            density = torch.bmm(density, inverse @ (factors.mT * stains))
        patches = torch.exp(-density).clamp(0, 1).view_as(patches)
    return patches.permute(0, 3, 1, 2)


@functools.cache
def _stains(device: torch.device) -> tuple[Tensor, Tensor]:
    """The stains and their inverse, float32 [3, 3]; inverted on the CPU, since a GPU would be waited for."""
    stains = torch.tensor(STAINS)
    return stains.to(device), torch.linalg.inv(stains).to(device)
