"""Seeds of what is random: one number from the numbers and names that it depends on, and on nothing else."""

import hashlib


def seed_of(*parts: int | str) -> int:
    """A seed of 63 bits; any other parts, or the same in another order, give another one."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1
