"""Integrated gradients against captum and closed forms; steps are doubled until the mask has converged."""

import captum.attr
import numpy as np
import pytest
import torch

from pcam_agreement.attribution.common.baseline import baseline as baseline_of
from pcam_agreement.attribution.methods import integrated_gradients
from pcam_agreement.heatmaps.masks import overlap, top_mask
from small_networks import Linear, precise, run


@pytest.mark.parametrize("baseline", ["white", "black", "mean", "blurred", "imagenet"])
@pytest.mark.parametrize(("rule", "n_steps"), [("gauss_legendre", 1), ("auto", 1), ("auto", 9)])
def test_integrated_gradients_of_a_linear_network_are_weight_times_difference(
    patches, settings, baseline, rule, n_steps
):
    network = Linear()
    change = {"baseline": baseline, "rule": rule, "n_steps": n_steps, "max_steps": n_steps}
    attribution, diagnostics = run("integrated_gradients", network, patches, settings, **change)
    expected = network.weight * (patches - baseline_of(patches, baseline))
    torch.testing.assert_close(attribution, expected, rtol=1e-4, atol=1e-5)
    assert (diagnostics["steps"] == n_steps).all()
    assert (diagnostics["convergence_delta"] < 1e-3).all()


def test_integrated_gradients_agree_with_captum(patches, settings, resnet):
    resnet, patches = precise(resnet, patches)
    attribution, _ = run(
        "integrated_gradients", resnet, patches, settings, rule="gauss_legendre", n_steps=8, max_steps=8
    )
    captums = captum.attr.IntegratedGradients(resnet, multiply_by_inputs=True)
    expected = captums.attribute(patches, torch.ones_like(patches), n_steps=8, method="gausslegendre")
    torch.testing.assert_close(attribution, expected, rtol=1e-5, atol=1e-7 * expected.abs().max().item())


def test_steps_are_doubled_until_the_mask_is_converged_and_no_further(patches, settings, resnet):
    change = {"n_steps": 2, "max_steps": 64}
    _, easy = run("integrated_gradients", resnet, patches, settings, 64, tolerance=0.3, **change)
    _, hard = run("integrated_gradients", resnet, patches, settings, 64, tolerance=0.1, **change)
    assert (easy["steps"] < hard["steps"]).any()
    for diagnostics, tolerance in ((easy, 0.3), (hard, 0.1)):
        converged = diagnostics["stability"] >= 1 - tolerance
        assert (diagnostics["unconverged"].bool() == ~converged).all()
        assert (diagnostics["steps"][~converged] == 64).all()
    assert len(hard["steps"].unique()) > 1  # easy patches stopped earlier than hard ones


def test_integrated_gradients_whose_steps_are_not_doubled_are_not_known_to_be_converged(patches, settings):
    _, diagnostics = run("integrated_gradients", Linear(), patches, settings, n_steps=8, max_steps=15)
    assert diagnostics["unconverged"].all()
    assert not diagnostics["stability"].any()


@pytest.mark.parametrize("rule", ["auto", "gauss_legendre"])
def test_the_stability_that_is_stated_is_the_one_that_the_converged_mask_shows(rule, patches, settings, resnet):
    patches = patches[:5]
    change = {"rule": rule, "n_steps": 8, "max_steps": 16, "tolerance": 1e-9}
    attribution, diagnostics = run("integrated_gradients", resnet, patches, settings, 64, **change)
    exact, _ = run("integrated_gradients", resnet, patches, settings, 64, n_steps=160, max_steps=160)
    masks = [top_mask(maps.sum(1).abs().flatten(1).numpy(), 0.25) for maps in (attribution, exact)]
    shown = overlap(*masks)
    np.testing.assert_allclose(diagnostics["stability"], shown, atol=0.1)
    # Gradients of a ReLU network at points converge a little more expectedly than is taken for granted.
    near = 0.03 if rule == "auto" else 0.05
    assert diagnostics["stability"].mean().item() == pytest.approx(shown.mean(), abs=near)


def test_quadrature_is_exact_to_its_degree():
    positions, weights = integrated_gradients.quadrature("gauss_legendre", 3)
    assert (weights * positions**5).sum() == pytest.approx(1 / 6)
    positions, weights = integrated_gradients.quadrature("right", 4)
    assert (positions.tolist(), weights.sum()) == ([0.25, 0.5, 0.75, 1], 1)
