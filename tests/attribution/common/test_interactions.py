"""Interactions of adjacent superpixels against all samples that there are, and what is gained by taking them out."""

import itertools

import numpy as np
import pytest
import torch

from conftest import attribute, chosen
from pcam_agreement.attribution.common import interactions, regression, sampling
from pcam_agreement.attribution.methods.lime import kernel
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.inference.batch import Batch
from small_networks import run

INTERACTIONS = {"sampling": "orthogonal", "interactions": True}


def test_adjacent_superpixels_are_pairs_and_triples():
    pairs, triples = interactions.adjacent(np.array([[0, 0, 1], [2, 2, 1], [2, 3, 3]]))
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert triples.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert [len(members) for members in interactions.adjacent(np.zeros((4, 4), int))] == [0, 0]


def all_samples(count):
    """All samples [2 ** count, count], opposites side by side; first, as in `orthogonal`, all on and all off."""
    z = torch.tensor(list(itertools.product((1.0, 0.0), repeat=count)), dtype=torch.float64)[: 2 ** (count - 1)]
    return torch.stack([z, 1 - z], 1).flatten(0, 1)


def test_limes_coefficients_of_interactions_are_those_of_a_regression_on_all_samples():
    z, random = all_samples(7), np.random.default_rng(0)
    groups = interactions.adjacent(np.arange(7)[None])
    effects = tuple(torch.from_numpy(random.normal(size=len(members))) for members in groups)
    target = sum((2 * z - 1)[:, members].prod(2) @ effect for members, effect in zip(groups, effects, strict=True))
    weights = kernel(z[None], torch.tensor([7]), "distance", 0.25)
    alone = kernel(torch.ones(1, 8, 7).tril(-1), torch.tensor([7]), "distance", 0.25)[0].double().numpy()
    coefficients = interactions._lime_coefficients(groups, effects, alone, len(z), 1.0)
    centred = [regression.centred(values[None], weights) for values in (z, target)]
    torch.testing.assert_close(
        coefficients, regression.weighted_ridge(*centred, weights, 1.0).coefficients[0], rtol=1e-5, atol=1e-7
    )


def test_without_interactions_coefficients_have_half_the_error_and_the_same_mean():
    random, count = np.random.default_rng(0), 16
    groups = interactions.adjacent(np.arange(count).reshape(4, 4))
    effects = [torch.from_numpy(random.normal(size=len(members))) for members in groups]
    main = 3 * torch.from_numpy(random.normal(size=count))

    def fit(z, plain):
        scores = z @ main + sum(
            (2 * z - 1)[:, members].prod(2) @ effect for members, effect in zip(groups, effects, strict=True)
        )
        weights = kernel(z[None], torch.tensor([count]), "distance", 0.25)
        weights[:, :2] = 0
        centred = [regression.centred(values[None], weights) for values in (z, scores)]
        if plain:
            return regression.weighted_ridge(*centred, weights, 1e-9).coefficients[0]
        alone = kernel(torch.ones(1, 17, 16).tril(-1), torch.tensor([count]), "distance", 0.25)[0].numpy()
        estimate = interactions.interactions(z, scores, groups, alone, 1e-9)
        centred[1] = regression.centred((scores - estimate.contributions)[None], weights)
        return regression.weighted_ridge(*centred, weights, 1e-9).coefficients[0] + estimate.coefficients

    exact = fit(all_samples(count), plain=True)
    error = {}
    for plain in (True, False):
        generators = map(np.random.default_rng, range(20))
        samples = [torch.from_numpy(sampling.orthogonal(random, 256, count)).double() for random in generators]
        coefficients = torch.stack([fit(z, plain) for z in samples])
        error[plain] = (coefficients - exact).square().mean().sqrt()
        assert (coefficients.mean(0) - exact).square().mean().sqrt() < 0.4 * error[plain]
    assert error[False] < 0.5 * error[True]


def test_a_constant_in_the_scores_changes_no_interaction():
    groups, random = interactions.adjacent(np.arange(16).reshape(4, 4)), np.random.default_rng(0)
    z = torch.from_numpy(sampling.orthogonal(random, 64, 16)).double()
    scores = torch.from_numpy(random.normal(size=64))
    first, second = (interactions.interactions(z, scores + start, groups, np.ones(17), 1.0) for start in (0, 1e4))
    torch.testing.assert_close(
        (first.contributions, first.coefficients, first.influence),
        (second.contributions, second.coefficients, second.influence),
    )


@pytest.mark.slow
def test_orthogonal_samples_without_interactions_come_closer_to_the_map_of_many_samples(patches, settings, resnet):
    many = {"segments": 50, "samples": 1000, "max_samples": 1000}
    exact = run("lime", resnet, patches[:2], settings, 64, sampling="independent", **many)[0]
    few, seeds = {"segments": 50, "samples": 128, "max_samples": 128}, [range(s, s + 2) for s in (0, 9, 18)]
    distance = {}
    for kind in ("independent", "orthogonal"):
        change = {**few, **(INTERACTIONS if kind == "orthogonal" else {})}
        maps = [run("lime", resnet, patches[:2], settings, 64, sample, **change)[0] for sample in seeds]
        distance[kind] = np.mean([(attribution - exact).square().mean().item() for attribution in maps])
    assert distance["orthogonal"] < 0.7 * distance["independent"]


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_stated_stability_counts_interactions_of_superpixels_far_apart(strength, settings):
    """A score of pairs that are not adjacent: nothing takes them out, and the kernel's weights let them disturb."""
    random = np.random.default_rng(0)
    corners = [-(-96 * row // 7) for row in range(7)]
    patch = torch.full((1, 3, 96, 96), 0.5)
    for top, left in itertools.product(corners, corners):
        patch[..., top, left], patch[..., top + 1, left] = 0.6, 0.4  # off, both are 0.5
    main = torch.from_numpy(random.normal(size=49)).float()
    pairs = torch.from_numpy(random.permuted(np.tile(np.arange(49), (100, 1)), axis=1)[:, :2].copy())

    def score(inputs, rows):
        signs = inputs[:, 0, corners][:, :, corners].flatten(1).sub(0.55).mul(20)
        return signs @ main + strength * signs[:, pairs].prod(2).sum(1)

    change = chosen(settings, "lime", superpixels="grid", segments=49, samples=256, max_samples=256, **INTERACTIONS)
    attribution, diagnostics = attribute("lime", score, patch.expand(8, -1, -1, -1), range(8), change, Batch(64))
    maps = top_mask(attribution.abs().flatten(1).numpy(), 0.25)
    shown = np.mean([overlap(a[None], b[None]).mean() for a, b in itertools.combinations(maps, 2)])
    assert diagnostics["stability"].mean().item() == pytest.approx(shown, abs=0.1)
