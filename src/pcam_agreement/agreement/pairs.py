"""What a pair of networks stands for, and the order in which networks are shown."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

KINDS = ("between", "within", "untrained")


class Trained(Protocol):
    """What is known of a network: see networks.recipes.Network."""

    @property
    def recipe(self) -> str: ...
    @property
    def trained(self) -> bool: ...


N = TypeVar("N", bound=Trained)


def pair_kind(a: Trained, b: Trained) -> str:
    """between: of two recipes; within: two trainings of one recipe; untrained: one of the two, or both."""
    if not (a.trained and b.trained):
        return "untrained"
    return "within" if a.recipe == b.recipe else "between"


def shown_order(networks: Iterable[N]) -> list[N]:
    """Trained networks first, recipe by recipe; then the untrained ones, in the same order of recipes."""
    return sorted(networks, key=lambda network: not network.trained)
