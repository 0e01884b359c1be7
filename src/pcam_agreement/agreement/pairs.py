"""What a pair of networks stands for, and the order in which networks are shown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Recipe = Mapping[str, Any]  # a block of `network`, whole: see networks.recipes


def pair_kind(a: Recipe, b: Recipe) -> str:
    """floor: one of the two is untrained; ceiling: trained alike but for the seed; trained: any other two."""
    if not (a["epochs"] and b["epochs"]):
        return "floor"
    return "ceiling" if {**a, "seed": b["seed"]} == dict(b) else "trained"


def ceilings(networks: Mapping[str, Recipe]) -> list[list[list[int]]]:
    """For every pair and each of its networks that was trained again from another seed: the pairs of such trainings."""
    pairs = list(combinations(networks, 2))
    kinds = [pair_kind(networks[a], networks[b]) for a, b in pairs]

    def trained_again(name: str) -> list[int]:
        alike = [n for n in networks if n == name or pair_kind(networks[name], networks[n]) == "ceiling"]
        return [row for row, (a, b) in enumerate(pairs) if kinds[row] == "ceiling" and a in alike and b in alike]

    return [[rows for name in pair if (rows := trained_again(name))] for pair in pairs]


def similar_order(pairs: pd.DataFrame, networks: list[str]) -> list[str]:
    """The networks, those that agree next to each other: average linkage on 1 - mean over methods of the IoU.

    Pairs that were never compared count as sharing nothing.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage  # half a second that only this needs

    distance = 1 - pairs.groupby(["network_a", "network_b"])["iou"].mean()
    condensed = [distance.get(pair, np.nan) for pair in combinations(networks, 2)]
    tree = linkage(np.nan_to_num(condensed, nan=1.0), "average", optimal_ordering=True)
    return [networks[leaf] for leaf in leaves_list(tree)]
