"""Perturbation samples of LIME and KernelSHAP: which superpixels are on.

Every function takes a generator, the number of samples (even) and of superpixels, and returns 0/1 [samples, count].
The first sample is the patch itself, all superpixels on.
"""

import numpy as np


def independent(random: np.random.Generator, samples: int, count: int) -> np.ndarray:
    """Each superpixel on with probability 1/2, independently, as LIME was published."""
    z = random.integers(0, 2, (samples, count)).astype(np.float32)
    z[0] = 1
    return z


def orthogonal(random: np.random.Generator, samples: int, count: int) -> np.ndarray:
    """Each sample alone is distributed as in `independent`; together they are rows of Hadamard matrices, each
    followed by its opposite.

    Any three superpixels are then balanced over a matrix: effects of others, alone or in pairs, do not disturb a
    superpixel's coefficient (Plackett and Burman 1946 with Box and Wilson's fold-over, here with columns, signs
    and rows at random). The same precision takes fewer samples.
    """
    from scipy.linalg import hadamard

    order = 1 << count.bit_length()  # a power of two above the count
    blocks = []
    for _ in range(-(-samples // (2 * order))):
        matrix = hadamard(order)[random.permutation(order)][:, random.permutation(order)[:count]]
        blocks.append(matrix * random.choice([-1, 1], count) > 0)
    return _with_opposites(np.concatenate(blocks)[: samples // 2])


def coalitions(random: np.random.Generator, samples: int, count: int) -> np.ndarray:
    """k of d superpixels on with probability in proportion to (d - 1) / (C(d, k) k (d - k)); and the opposites."""
    if count == 1:
        return _with_opposites(np.ones((samples // 2, 1)))  # between everything and nothing there is no coalition
    sizes = np.arange(1, count)
    weights = 1 / (sizes * (count - sizes))
    chosen = random.choice(sizes, samples // 2, p=weights / weights.sum())
    order = random.random((samples // 2, count)).argsort(1).argsort(1)
    return _with_opposites(order < chosen[:, None])


def _with_opposites(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float32)
    z[0] = 1
    return np.stack([z, 1 - z], 1).reshape(-1, z.shape[1])
