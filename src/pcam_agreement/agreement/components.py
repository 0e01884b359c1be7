"""Patch-specific overlap by recipe: within a recipe, between recipes, with untrained networks.

Every component is a mean of the overlaps C of some pairs of networks, so that all of them are one matrix times C, and
to leave a training or an untrained network out is another matrix.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Networks:
    """Which network is what: its recipe, its architecture, whether it is trained; one entry a network."""

    recipes: Sequence[str]
    architectures: Sequence[str]
    trained: Sequence[bool]

    def trainings(self, recipe: str) -> list[int]:
        """The rows of the trainings of a recipe."""
        return [row for row, name in enumerate(self.recipes) if name == recipe and self.trained[row]]

    def untrained(self) -> list[int]:
        """The rows of all untrained networks."""
        return [row for row, trained in enumerate(self.trained) if not trained]


@dataclass(frozen=True)
class Layout:
    """The rows of a vector of components, for the recipes that enter.

    total, within, input, imprint: a row a recipe; between: a row a pair of recipes, in the order of `combinations`;
    untrained: one row; noise, noise_total: a row a recipe (see `weights`).
    """

    recipes: Sequence[str]

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(len(self.recipes)), 2))

    @cached_property
    def blocks(self) -> dict[str, slice]:
        count, start, blocks = len(self.recipes), 0, {}
        lengths = {"total": count, "within": count, "between": len(self.pairs), "input": count, "imprint": count}
        for name, length in {**lengths, "untrained": 1, "noise": count, "noise_total": count}.items():
            blocks[name] = slice(start, start + length)
            start += length
        return blocks

    @property
    def size(self) -> int:
        return self.blocks["noise_total"].stop


def weights(layout: Layout, networks: Networks, pairs: np.ndarray, without: Collection[int] = ()) -> csr_array:
    """The matrix [components, pairs + 2 * networks] that makes components of C; NaN in rows of which there is no pair.

    pairs: [k, 2], the pairs of C, each network with itself among them; without: networks to leave out. Behind the
    pairs: C of each network with itself and with its own other perturbation samples, on the patches that have both.

    total: a network with itself; within: two trainings of one recipe; between: two recipes; input: a training and an
    untrained network of another architecture; imprint: of the same; untrained: two of different architectures; noise:
    a network with itself less that with its other perturbation samples; noise_total: with itself, on these patches.
    """
    count = len(networks.recipes)
    place = np.zeros((count, count), int)
    place[tuple(pairs.T)] = place[tuple(pairs[:, ::-1].T)] = range(len(pairs))
    column = place.tolist()
    untrained = [k for k in networks.untrained() if k not in without]
    kind = networks.architectures
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []

    def put(row: int, of_row: list[int], value: float) -> None:
        rows.extend([row] * len(of_row))
        columns.extend(of_row)
        values.extend([value] * len(of_row))

    def mean_of(row: int, chosen: list[tuple[int, int]]) -> None:
        put(row, [column[i][j] for i, j in chosen] or [0], 1 / len(chosen) if chosen else np.nan)

    trainings = [[i for i in networks.trainings(recipe) if i not in without] for recipe in layout.recipes]
    blocks = layout.blocks
    for a, of_a in enumerate(trainings):
        mean_of(blocks["total"].start + a, [(i, i) for i in of_a])
        mean_of(blocks["within"].start + a, list(combinations(of_a, 2)))
        crossed = [(i, k) for i in of_a for k in untrained]
        mean_of(blocks["input"].start + a, [(i, k) for i, k in crossed if kind[i] != kind[k]])
        mean_of(blocks["imprint"].start + a, [(i, k) for i, k in crossed if kind[i] == kind[k]])
        itself = [len(pairs) + i for i in of_a]
        for sign, of_noise in ((1, itself), (-1, [i + count for i in itself])):
            put(blocks["noise"].start + a, of_noise, sign / max(len(of_a), 1))
        put(blocks["noise_total"].start + a, itself, 1 / max(len(of_a), 1))
    for row, (a, b) in enumerate(layout.pairs, blocks["between"].start):
        mean_of(row, [(i, j) for i in trainings[a] for j in trainings[b]])
    mean_of(blocks["untrained"].start, [(k, m) for k, m in combinations(untrained, 2) if kind[k] != kind[m]])
    return csr_array((values, (rows, columns)), (layout.size, len(pairs) + 2 * count))
