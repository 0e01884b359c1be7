"""Gaps in performance beside normalised agreement, from five architectures on."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from pcam_agreement.agreement.intervals import Estimate, undefined
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import gaps


def of(architectures: str, again: bool = False):
    """One recipe an architecture (`again`: the first has two), two trainings each; A falls with the gap."""
    recipes = {f"{name}_recipe": name for name in architectures}
    if again:
        recipes["other_recipe"] = architectures[0]
    networks = [Network(name, seed, kind) for name, kind in recipes.items() for seed in ("1", "2", "untrained")]
    skill = {name: 0.9 + 0.01 * row**1.5 for row, name in enumerate(architectures)}
    aurocs = {n.name: skill[n.architecture] + (0.002 if n.training == "2" else 0) for n in networks}
    agreement = {
        (a, b): Estimate((value := 1 - 3 * abs(skill[recipes[a]] - skill[recipes[b]])), value - 0.1, value + 0.1, 0.05)
        for a, b in combinations(recipes, 2)
    }
    return SimpleNamespace(recipes=list(recipes), agreement=agreement), networks, aurocs


@pytest.mark.parametrize("again", [False, True])
def test_architectures_that_perform_alike_and_look_alike_are_found(again):
    table = gaps.gap_table("lime", *of("abcde", again))
    assert len(table) == 10
    np.testing.assert_allclose(table["agreement"], 1 - 3 * table["auroc_gap"])
    test = gaps.gap_test(table, 0)
    assert (test["architectures"], test["rho"]) == (5, -1)
    assert test["p"] < 0.05


def test_of_four_architectures_nothing_is_printed():
    table = gaps.gap_table("lime", *of("abcd"))
    assert table.empty
    assert gaps.gap_test(table, 0) == {}


def test_where_one_agreement_is_undefined_the_test_is():
    decomposition, networks, aurocs = of("abcde")
    decomposition.agreement["a_recipe", "b_recipe"] = undefined("they share nothing")
    table = gaps.gap_table("lime", decomposition, networks, aurocs)
    assert table["agreement"].isna().sum() == 1
    assert gaps.gap_test(table, 0)["rho"] is None


def test_a_test_in_words_does_not_call_the_unlikely_impossible():
    assert gaps.said_of_test({"rho": -0.371, "p": 0.0001}) == "rank correlation -0.37 (p < 0.01)"
    assert gaps.said_of_test({"rho": -0.371, "p": 0.0064}) == "rank correlation -0.37 (p = 0.01)"
    assert gaps.said_of_test({"rho": None, "p": None}) == "no rank correlation"
