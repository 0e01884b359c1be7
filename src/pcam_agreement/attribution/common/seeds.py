"""Seeds of patches: the same in whatever chunk, run or network a patch is explained."""

import numpy as np


def patch_seed(seed: int, patch: int, repeat: int = 0) -> int:
    """The seed of a patch; with another number of the repeat, another one."""
    return int(np.random.SeedSequence((seed, patch, repeat)).generate_state(1, np.uint64)[0])
