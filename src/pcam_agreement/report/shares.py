"""Tables of what networks share: a method's decompositions in long form, pure data frames, no files."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pcam_agreement.agreement.components import Networks
from pcam_agreement.agreement.decomposition import Decomposition, decompose
from pcam_agreement.agreement.intervals import Estimate
from pcam_agreement.agreement.overlaps import unpack
from pcam_agreement.networks.recipes import Network

SHARES = ("common", "input", "learned", "recipe", "training", "noise")
LABELS = {None: "both", 0: "normal", 1: "tumour"}
AVERAGED = range(1, 11)  # trainings


class Of(NamedTuple):
    """What a decomposition is of: a scale in pixels, a top fraction, and the patches of one label or (None) of both."""

    sigma: float
    fraction: float
    label: int | None = None


def decompose_views(results: Mapping[str, np.ndarray], networks: Sequence[Network]) -> dict[Of, Decomposition]:
    """The decompositions of what `compare` wrote: the headline's first, then of each label, scale and top fraction."""
    of_networks = Networks(
        [network.recipe for network in networks],
        [network.architecture for network in networks],
        [network.trained for network in networks],
    )
    overlaps, repeats = unpack(results, "overlap"), unpack(results, "repeat")
    decompositions: dict[Of, Decomposition] = {}
    for view, of_view in overlaps.items():
        repeated = repeats.get(view)
        decompositions[Of(view.sigma, view.fraction)] = decompose(of_view, of_networks, repeated)
        if len(decompositions) == 1:
            for label in np.unique(results["labels"]):
                of_label = repeated.of_label(label) if repeated else None
                one = decompose(of_view.of_label(label), of_networks, of_label)
                decompositions[Of(view.sigma, view.fraction, int(label))] = one
    return decompositions


def shares_table(method: str, decompositions: Mapping[Of, Decomposition]) -> pd.DataFrame:
    """One row a view (scale, top fraction, label) and share of C_T: its value, 95 % interval, or why it has none."""
    return pd.DataFrame(
        [
            {**_view(method, view), "share": name, **_columns(decomposition.shares[name])}
            for view, decomposition in decompositions.items()
            for name in SHARES
        ]
    )


def estimates_table(method: str, decompositions: Mapping[Of, Decomposition]) -> pd.DataFrame:
    """One row a view and what is estimated beside the shares: R, reliability, the trainings needed, and untrained C."""
    return pd.DataFrame(
        [
            {**_view(method, view), "estimate": name, **_columns(getattr(decomposition, name))}
            for view, decomposition in decompositions.items()
            for name in ("R", "R_learned", "reliability", "trainings_needed", "untrained")
        ]
    )


def overlap_with_untrained(decomposition: Decomposition, networks: Sequence[Network]) -> float:
    """The mean overlap of trained and untrained networks of other architectures, as a share of C_T.

    It stands beside the common share where what untrained networks see cannot be told from what is learned. NaN where
    there are no such networks.
    """
    trained = [i for i, network in enumerate(networks) if network.trained and network.recipe in decomposition.recipes]
    pairs = [
        (i, k)
        for i in trained
        for k, other in enumerate(networks)
        if not other.trained and other.architecture != networks[i].architecture
    ]
    if not pairs:
        return float("nan")
    itself = decomposition.overlap[trained, trained].mean()
    return float(np.mean([decomposition.overlap[pair] for pair in pairs]) / itself)


def recipes_table(method: str, decomposition: Decomposition) -> pd.DataFrame:
    """One row a pair of recipes: their normalised agreement A."""
    rows = [
        {"method": method, "recipe_a": a, "recipe_b": b, **_columns(estimate)}
        for (a, b), estimate in decomposition.agreement.items()
    ]
    return pd.DataFrame(rows, columns=["method", "recipe_a", "recipe_b", "value", "low", "high", "reason"])


def reliability_table(method: str, decomposition: Decomposition) -> pd.DataFrame:
    """One row a recipe, or `all`, and number of trainings averaged: the reliability of their mean heatmap's mask.

    By Spearman and Brown: n rho / (1 + (n - 1) rho). imprint: the overlap of a recipe's trainings with the untrained
    network of its own architecture, as a share of C_T.
    """
    rows = []
    for recipe in ("all", *decomposition.recipes):
        if recipe == "all":
            rho, needed, imprint = decomposition.reliability, decomposition.trainings_needed, np.nan
        else:
            rho, needed = decomposition.own_reliability[recipe], decomposition.own_trainings_needed[recipe]
            imprint = decomposition.imprint[recipe].value
        for n in AVERAGED:
            row = {"method": method, "recipe": recipe, "trainings": n, **_columns(rho)}
            row |= {end: averaged(row[end], n) for end in ("value", "low", "high")}
            row |= {"needed": needed.value, "needed_low": needed.low, "needed_high": needed.high, "imprint": imprint}
            rows.append(row)
    return pd.DataFrame(rows)


def averaged(rho: float, n: int) -> float:
    """The reliability of the mean of n trainings where that of one is rho; NaN where that is not above -1 / (n - 1).

    >>> round(averaged(0.5, 4), 3)
    0.8
    """
    below = 1 + (n - 1) * rho
    return n * rho / below if below > 0 else float("nan")


def _view(method: str, view: Of) -> dict:
    return {"method": method, "sigma": view.sigma, "fraction": view.fraction, "label": LABELS[view.label]}


def _columns(estimate: Estimate) -> dict:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "reason": estimate.reason}
