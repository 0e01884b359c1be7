"""Methods against closed forms, identities and other implementations, over the whole table."""

import copy

import captum.attr
import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from torch import nn

from conftest import ready
from pcam_agreement.architectures import NETWORKS
from pcam_agreement.attribution import METHODS, path, perturbation
from pcam_agreement.attribution.score import make_score
from pcam_agreement.attribution.superpixels import superpixels
from pcam_agreement.explaining import explain_patches, patch_seed
from pcam_agreement.params import Methods

SEEDS = [patch_seed(0, index) for index in range(8)]


class Linear(nn.Module):
    """A network that is a weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


class Bend(nn.Module):
    """A network with curvature: completeness needs nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()
        self.eval()

    def forward(self, patches):
        return torch.sin(self.linear(patches) / 10) * 5


def score_of(network, patches, target="tumour", output="logit"):
    with torch.no_grad():
        return make_score(network, network(patches), target, output)


def precise(network, patches):
    """In float64: in float32 a rounded input can open or close a ReLU, and the gradient jumps."""
    return copy.deepcopy(network).double(), patches.double()


def run(method, network, patches, settings, batch_size=16, seeds=SEEDS, **change):
    chosen = getattr(settings.method, method).model_copy(update=change)
    return METHODS[method](score_of(network, patches), patches, seeds[: len(patches)], chosen, batch_size)


def test_every_method_has_settings_and_every_setting_a_method():
    assert list(METHODS) == list(Methods.model_fields)


def test_saliency_of_a_linear_network_is_its_weight(patches, settings):
    network = Linear()
    found, _ = run("saliency", network, patches, settings)
    torch.testing.assert_close(found, network.weight.expand_as(found))


def test_saliency_agrees_with_captum(patches, settings, resnet):
    found, _ = run("saliency", resnet, patches, settings)
    slow = captum.attr.Saliency(resnet).attribute(patches, abs=False)
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["white", "black", "mean", "blurred", "imagenet"])
def test_integrated_gradients_of_a_linear_network_are_weight_times_difference(patches, settings, baseline):
    network = Linear()
    found, diagnostics = run("integrated_gradients", network, patches, settings, baseline=baseline, nodes=1)
    expected = network.weight * (patches - path.baseline(patches, baseline))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (diagnostics["nodes"] == 1).all()
    assert not diagnostics["unconverged"].any()


def test_integrated_gradients_agree_with_captum(patches, settings, resnet):
    resnet, patches = precise(resnet, patches)
    found, _ = run("integrated_gradients", resnet, patches, settings, nodes=8, max_nodes=8)
    captums = captum.attr.IntegratedGradients(resnet, multiply_by_inputs=True)
    slow = captums.attribute(patches, torch.ones_like(patches), n_steps=8, method="gausslegendre")
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-7 * slow.abs().max().item())


def test_integrated_gradients_refine_until_they_are_complete(patches, settings):
    found, diagnostics = run("integrated_gradients", Bend(), patches, settings, nodes=2, max_nodes=512, tolerance=1e-3)
    network = Bend()
    change = network(patches) - network(torch.ones_like(patches))
    error = ((found.sum((1, 2, 3)) - change).abs() / change.abs().clamp(min=1e-3))[: len(patches)]
    torch.testing.assert_close(diagnostics["completeness_error"], error, rtol=1e-2, atol=1e-4)
    assert (error <= 1e-3).all()
    assert len(diagnostics["nodes"].unique()) > 1  # easy patches stopped earlier than hard ones


def test_integrated_gradients_that_run_out_of_nodes_are_flagged(patches, settings):
    _, diagnostics = run("integrated_gradients", Bend(), patches, settings, nodes=2, max_nodes=2, tolerance=1e-6)
    assert diagnostics["unconverged"].all()


def test_quadrature_is_exact_to_its_degree():
    where, weights = path.quadrature("gauss_legendre", 3)
    assert (weights * where**5).sum() == pytest.approx(1 / 6)
    where, weights = path.quadrature("right", 4)
    assert (where.tolist(), weights.sum()) == ([0.25, 0.5, 0.75, 1], 1)


def test_lime_solves_what_scikit_learn_solves():
    random = np.random.default_rng(0)
    z, target, weights = random.integers(0, 2, (3, 40, 7)), random.normal(size=(3, 40)), random.random((3, 40))
    found, r2 = perturbation.weighted_ridge(*map(torch.from_numpy, (z.astype(float), target, weights)), 1.0)
    for row in range(3):
        model = Ridge(alpha=1.0).fit(z[row], target[row], sample_weight=weights[row])
        np.testing.assert_allclose(found[row], model.coef_, rtol=1e-8)
        assert r2[row].item() == pytest.approx(model.score(z[row], target[row], sample_weight=weights[row]))


def test_lime_agrees_with_the_lime_package_on_the_same_segments_and_draws(patches, settings, resnet):
    chosen = settings.method.lime.model_copy(update={"samples": 60, "segments": 16})
    found, diagnostics = METHODS["lime"](score_of(resnet, patches[:2]), patches[:2], SEEDS[:2], chosen, 16)
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = superpixels(pixels, "slic", 16)
        count = labels.max() + 1
        z = perturbation.draw(np.random.default_rng(SEEDS[row]), 60, count)
        means = np.stack([pixels[labels == segment].mean(0) for segment in range(count)])
        inputs = np.where(z[:, labels, None] > 0, pixels, means[labels])
        with torch.no_grad():
            logits = resnet(torch.from_numpy(inputs).permute(0, 3, 1, 2).float()).numpy()[:, None]
        distances = pairwise_distances(z, z[:1], metric="cosine").ravel()
        package = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=0)
        _, local, r2, _ = package.explain_instance_with_data(z, logits, distances, 0, count)
        slow = np.zeros(count)
        for segment, coefficient in local:
            slow[segment] = coefficient
        np.testing.assert_allclose(found[row, 0], slow[labels], rtol=1e-3, atol=1e-4 * np.abs(slow).max())
        assert diagnostics["superpixels"][row] == count
        assert diagnostics["r2"][row].item() == pytest.approx(r2, rel=1e-3)


def test_lime_on_a_linear_network_finds_each_superpixels_share(patches, settings):
    network = Linear()
    found, diagnostics = run("lime", network, patches[:2], settings, samples=400, segments=9, ridge=1e-9)
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = torch.from_numpy(superpixels(pixels, "slic", 9))
        for segment in range(int(labels.max()) + 1):
            inside = labels == segment
            mean = patches[row][:, inside].mean(1, keepdim=True)
            share = (network.weight[0][:, inside] * (patches[row][:, inside] - mean)).sum()
            torch.testing.assert_close(found[row, 0][inside][0], share, rtol=1e-2, atol=1e-2)
    assert (diagnostics["r2"] > 0.999).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_many_is_one_at_a_time(method, patches, settings, resnet):
    resnet, patches = precise(resnet, patches)
    change = {"lime": {"samples": 30, "segments": 16}, "integrated_gradients": {"nodes": 4, "max_nodes": 8}}
    together, _ = run(method, resnet, patches, settings, 32, **change.get(method, {}))
    for row in range(0, 8, 3):
        alone, _ = run(method, resnet, patches[row : row + 1], settings, 1, SEEDS[row:], **change.get(method, {}))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-6, atol=1e-6 * alone.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_explaining_gives_heatmaps_and_leaves_the_network_as_it_was(architecture, method, patches, settings):
    network = ready(architecture)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change = {"lime": {"samples": 12, "segments": 9}, "integrated_gradients": {"nodes": 2, "max_nodes": 2}}
    chosen = getattr(settings.method, method).model_copy(update=change.get(method, {}))
    first, second = (
        explain_patches(network, patches[:2], SEEDS[:2], method, chosen, settings.explain) for _ in range(2)
    )
    assert first["heatmaps"].shape == (2, 96, 96)
    assert first["heatmaps"].dtype == np.float16
    assert (first["heatmaps"] >= 0).all()
    said = ~first["constant"]
    np.testing.assert_allclose(first["heatmaps"][said].astype(float).mean((1, 2)), 1, rtol=1e-2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
