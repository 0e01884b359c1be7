"""The test of "similar performance, same regions?" where the truth is known."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from pcam_agreement.report.mantel import mantel


def matrices(random, networks, odd=0.0):
    """Gaps of independent performances, and agreements that depend on networks, one of them odd, but not on the gap."""
    performance, character = random.normal(size=(2, networks))
    character[0] += odd
    gap = np.abs(performance[:, None] - performance)
    noise = random.normal(size=(networks, networks)) / 4
    return gap, -np.abs(character[:, None] - character) + noise + noise.T


def test_it_is_spearmans_rho_with_a_slow_count_of_all_permutations():
    gap, agreement = matrices(np.random.default_rng(3), 5)
    pairs = list(itertools.combinations(range(5), 2))
    x = [gap[pair] for pair in pairs]
    rhos = [
        spearmanr(x, [agreement[order[i], order[j]] for i, j in pairs]).statistic
        for order in itertools.permutations(range(5))
    ]
    found = mantel(gap, agreement, 0)
    assert found.rho == pytest.approx(rhos[0])
    assert found.p == pytest.approx(np.mean(np.abs(rhos) >= abs(rhos[0]) - 1e-9))
    assert np.mean(np.abs(rhos) >= found.critical - 1e-9) <= 0.05
    just_less = max(rho for rho in np.abs(rhos) if rho < found.critical - 1e-9)
    assert np.mean(np.abs(rhos) >= just_less - 1e-9) > 0.05


@pytest.mark.parametrize("odd", [0.0, 5.0])
def test_chance_is_called_significant_as_often_as_it_says(odd):
    random = np.random.default_rng(0)
    found = [mantel(*matrices(random, 6, odd), 0).p <= 0.05 for _ in range(2000)]
    assert 0.035 <= np.mean(found) <= 0.06


def test_a_gap_that_decides_the_agreement_is_found():
    gap, noise = matrices(np.random.default_rng(1), 8)
    found = mantel(gap, -gap + 0.05 * noise, 0)
    assert found.rho < -0.9
    assert found.p < 0.01
    assert abs(found.rho) > found.critical


def test_more_than_eight_networks_are_permuted_at_random_and_the_same_again():
    gap, agreement = matrices(np.random.default_rng(2), 10)
    assert mantel(gap, agreement, 5) == mantel(gap, agreement, 5)
    assert mantel(gap, agreement, 5).p >= 1 / 10_000


def test_too_few_networks_can_never_be_significant_and_say_so():
    gap, agreement = matrices(np.random.default_rng(0), 3)
    found = mantel(gap, agreement, 0)
    assert found.p >= 1 / 6
    assert np.isnan(found.critical)
    assert np.isnan(mantel(gap[:2, :2], agreement[:2, :2], 0).rho)
    assert np.isnan(mantel(np.ones((4, 4)), np.ones((4, 4)), 0).p)


def test_values_that_differ_by_rounding_errors_tie():
    gap, agreement = matrices(np.random.default_rng(4), 5)
    gap[0, 1] = gap[1, 0] = gap[2, 3]
    noisy = gap * (1 + 1e-15 * np.random.default_rng(5).choice((-1, 1), gap.shape))
    assert mantel(noisy, agreement, 0).rho == pytest.approx(mantel(gap, agreement, 0).rho, abs=1e-12)


def test_an_agreement_that_is_not_known_has_no_test():
    gap, agreement = matrices(np.random.default_rng(0), 5)
    agreement[1, 2] = agreement[2, 1] = np.nan
    found = mantel(gap, agreement, 0)
    assert np.isnan([found.rho, found.p, found.critical]).all()
