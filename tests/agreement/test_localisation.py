"""Localisation against closed forms, and what maps get that are independent of the region."""

import numpy as np
import pytest
import torch

from conftest import chosen
from pcam_agreement.agreement.localisation import MEASURES, localisation
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.methods import centre
from pcam_agreement.heatmaps.masks import centre_gaussian
from pcam_agreement.inference.batch import Batch

random = np.random.default_rng(0)


def square(n: int, side: int = 24) -> np.ndarray:
    region = np.zeros((n, side, side), bool)
    region[:, 8:16, 8:16] = True
    return region.reshape(n, -1)


def test_a_map_of_the_region_is_all_in_it_and_its_complement_not_at_all():
    region = square(2)
    for name, values in localisation(region.astype(float), region).items():
        assert values.tolist() == [1, 1], name
    for name, values in localisation(1.0 - region, region).items():
        assert values.tolist() == [0, 0], name


def test_a_map_that_is_independent_of_the_region_gets_the_share_of_the_region():
    region = square(3000, 24)
    for values in localisation(random.random(region.shape), region).values():
        assert np.mean(values) == pytest.approx(1 / 9, abs=0.02)
    flat = localisation(np.ones((1, 576)), square(1))
    assert all(values[0] == pytest.approx(1 / 9) for values in flat.values())  # ties share


def test_measures_agree_with_a_slow_count():
    heat, region = random.exponential(size=(1, 100)), random.random((1, 100)) < 0.3
    results = localisation(heat, region)
    inside = set(np.flatnonzero(region[0]))
    order = np.argsort(-heat[0])
    assert results["mass"][0] == pytest.approx(sum(heat[0, i] for i in inside) / heat.sum())
    assert results["rank_accuracy"][0] == pytest.approx(len(inside & set(order[: len(inside)])) / len(inside))
    assert results["pointing"][0] == (order[0] in inside)


def test_no_region_and_no_map_are_left_out():
    region, heat = square(2), random.random((2, 576))
    region[0], heat[1] = False, 0
    assert all(np.isnan(localisation(heat, region)[name]).all() for name in MEASURES)


def test_the_gaussian_is_that_of_the_method_that_explains_nothing(patches, settings):
    score = make_score(torch.nn.Identity().eval(), torch.zeros(8), "tumour", "logit")
    settings = chosen(settings, "centre")
    attribution, _ = centre.attribute(score, patches[:1], [0], settings, Batch(1))
    np.testing.assert_allclose(centre_gaussian(96, settings.sigma), attribution[0, 0].numpy(), rtol=1e-5)
