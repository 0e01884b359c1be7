"""How many passes through the network a method takes."""

from typing import NamedTuple


class Passes(NamedTuple):
    """Of one patch, at most: forward passes alone, and forward passes followed by a backward pass."""

    forward: int
    gradient: int
