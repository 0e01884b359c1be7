"""Methods against closed forms, identities and other implementations, over the whole table."""

import copy
import itertools
import math

import captum.attr
import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from torch import nn

from conftest import ARCHITECTURES, CHEAP, METHODS, attribute, chosen, explain_patches, ready
from pcam_agreement.agreement.measures import chance_iou
from pcam_agreement.attribution.common import interactions, regression, sampling, surrogate
from pcam_agreement.attribution.common.baseline import baseline as baseline_of
from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.rescale import NotPiecewiseLinearError, mean_multipliers
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.seeds import patch_seed
from pcam_agreement.attribution.common.superpixels import superpixels
from pcam_agreement.attribution.methods import grad_cam, integrated_gradients, smoothgrad
from pcam_agreement.attribution.methods.lime import kernel
from pcam_agreement.core import plugins
from pcam_agreement.heatmaps.masks import normalise, overlap, reduce, top_mask
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.spatial import spatial_layer

SEEDS = [patch_seed(0, index) for index in range(8)]
INTERACTIONS = {"sampling": "orthogonal", "interactions": True}
SAMPLING = {"independent": sampling.independent, "orthogonal": sampling.orthogonal}


class Linear(nn.Module):
    """A network that is a weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


def score_of(network, patches, target="tumour", output="logit"):
    with torch.no_grad():
        return make_score(network, network(patches), target, output)


def precise(network, patches):
    """In float64: in float32 a rounded input can open or close a ReLU, and the gradient jumps."""
    return copy.deepcopy(network).double(), patches.double()


def run(method, network, patches, settings, batch_size=16, seeds=SEEDS, **change):
    score = score_of(network, patches)
    chosen_settings = chosen(settings, method, **change)
    return attribute(method, score, patches, seeds[: len(patches)], chosen_settings, Batch(batch_size))


def test_every_method_has_settings_and_every_setting_a_method(raw):
    assert set(METHODS) == set(raw["method"])


def test_saliency_of_a_linear_network_is_its_weight(patches, settings):
    network = Linear()
    found, _ = run("saliency", network, patches, settings)
    torch.testing.assert_close(found, network.weight.expand_as(found))


def test_saliency_agrees_with_captum(patches, settings, resnet):
    found, _ = run("saliency", resnet, patches, settings)
    slow = captum.attr.Saliency(resnet).attribute(patches, abs=False)
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["white", "black", "mean", "blurred", "imagenet"])
@pytest.mark.parametrize(("rule", "nodes"), [("gauss_legendre", 1), ("auto", 1), ("auto", 9)])
def test_integrated_gradients_of_a_linear_network_are_weight_times_difference(patches, settings, baseline, rule, nodes):
    network = Linear()
    change = {"baseline": baseline, "rule": rule, "n_steps": nodes, "max_steps": nodes}
    found, diagnostics = run("integrated_gradients", network, patches, settings, **change)
    expected = network.weight * (patches - baseline_of(patches, baseline))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (diagnostics["steps"] == nodes).all()
    assert (diagnostics["convergence_delta"] < 1e-3).all()


def test_integrated_gradients_agree_with_captum(patches, settings, resnet):
    resnet, patches = precise(resnet, patches)
    found, _ = run("integrated_gradients", resnet, patches, settings, rule="gauss_legendre", n_steps=8, max_steps=8)
    captums = captum.attr.IntegratedGradients(resnet, multiply_by_inputs=True)
    slow = captums.attribute(patches, torch.ones_like(patches), n_steps=8, method="gausslegendre")
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-7 * slow.abs().max().item())


def test_steps_are_doubled_until_the_mask_is_converged_and_no_further(patches, settings, resnet):
    change = {"n_steps": 2, "max_steps": 64}
    _, easy = run("integrated_gradients", resnet, patches, settings, 64, tolerance=0.3, **change)
    _, hard = run("integrated_gradients", resnet, patches, settings, 64, tolerance=0.1, **change)
    assert (easy["steps"] < hard["steps"]).any()
    for found, tolerance in ((easy, 0.3), (hard, 0.1)):
        converged = found["stability"] >= 1 - tolerance
        assert (found["unconverged"].bool() == ~converged).all()
        assert (found["steps"][~converged] == 64).all()
    assert len(hard["steps"].unique()) > 1  # easy patches stopped earlier than hard ones


def test_integrated_gradients_whose_steps_are_not_doubled_are_not_known_to_be_converged(patches, settings):
    _, diagnostics = run("integrated_gradients", Linear(), patches, settings, n_steps=8, max_steps=15)
    assert diagnostics["unconverged"].all()
    assert not diagnostics["stability"].any()


@pytest.mark.parametrize("rule", ["auto", "gauss_legendre"])
def test_the_stability_that_is_stated_is_the_one_that_the_converged_mask_shows(rule, patches, settings, resnet):
    patches = patches[:5]
    change = {"rule": rule, "n_steps": 8, "max_steps": 16, "tolerance": 1e-9}
    found, diagnostics = run("integrated_gradients", resnet, patches, settings, 64, **change)
    exact, _ = run("integrated_gradients", resnet, patches, settings, 64, n_steps=160, max_steps=160)
    masks = [top_mask(maps.sum(1).abs().flatten(1).numpy(), 0.25) for maps in (found, exact)]
    shown = overlap(*masks)
    np.testing.assert_allclose(diagnostics["stability"], shown, atol=0.1)
    # Gradients of a ReLU network at points converge a little more slowly than is taken for granted.
    near = 0.03 if rule == "auto" else 0.05
    assert diagnostics["stability"].mean().item() == pytest.approx(shown.mean(), abs=near)


def test_quadrature_is_exact_to_its_degree():
    where, weights = integrated_gradients.quadrature("gauss_legendre", 3)
    assert (weights * where**5).sum() == pytest.approx(1 / 6)
    where, weights = integrated_gradients.quadrature("right", 4)
    assert (where.tolist(), weights.sum()) == ([0.25, 0.5, 0.75, 1], 1)


def test_twice_as_many_pieces_halve_them():
    assert integrated_gradients.step_ends(5)[[0, -1]].tolist() == [0, 1]
    np.testing.assert_allclose(integrated_gradients.step_ends(10)[::2], integrated_gradients.step_ends(5))


class Shallow(nn.Module):
    """One layer of ReLUs, or of the larger of two lines."""

    def __init__(self, pool: bool, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 32, 32, dtype=torch.float64)
        self.bend = nn.MaxPool2d((1, 3)) if pool else nn.ReLU(inplace)
        self.last = nn.Linear(12 if pool else 36, 1, dtype=torch.float64)
        self.eval()

    def forward(self, patches):
        return self.last(self.bend(self.first(patches)).flatten(1))[:, 0]


@pytest.mark.parametrize("network", [Shallow(False), Shallow(False, inplace=True), Shallow(True)])
def test_one_piece_is_the_integral_of_a_network_of_one_bend(network, patches, settings):
    """By hand: each unit's weight to the score, times how much of the path it is on, or leads."""
    patches = patches[:4].double()
    found, _ = run("integrated_gradients", network, patches, settings, n_steps=1, max_steps=1)
    with torch.no_grad():
        white, at = network.first(torch.ones_like(patches)), network.first(patches)
        time = torch.linspace(0.5e-4, 1 - 0.5e-4, 10_000, dtype=torch.float64).view(-1, 1, 1, 1, 1)
        values = torch.lerp(white, at, time)
        if isinstance(network.bend, nn.MaxPool2d):
            on = (values == values.amax(-1, keepdim=True)).double().mean(0)
            weight = network.last.weight.view(1, 4, 3, 1)
        else:
            on, weight = (values > 0).double().mean(0), network.last.weight.view(1, 4, 3, 3)
    slope = torch.nn.functional.conv_transpose2d(on * weight, network.first.weight, stride=32)
    expected = (slope * (patches - 1)).detach()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_one_piece_is_deep_lift(patches, settings):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 7, 3), nn.ReLU(), nn.Conv2d(8, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1)]
    network = nn.Sequential(*layers).double().eval()
    patches = patches[:4].double()
    network(patches)
    score = make_score(nn.Sequential(network, nn.Flatten(0)).eval(), patches.new_zeros(4), "tumour", "logit")
    change = chosen(settings, "integrated_gradients", n_steps=1, max_steps=1)
    found, _ = attribute("integrated_gradients", score, patches, SEEDS[:4], change, Batch(3))
    slow = captum.attr.DeepLift(network).attribute(patches, torch.ones_like(patches))
    torch.testing.assert_close(found, slow.detach(), rtol=1e-5, atol=1e-6 * slow.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pieces_add_up_to_the_change_of_the_score_or_the_network_is_known_to_be_smooth(architecture, patches, settings):
    network, patches = precise(ready(architecture), patches[:2])
    if architecture in ("vit_b_16", "efficientnet_b1"):
        with pytest.raises(NotPiecewiseLinearError):
            mean_multipliers(score_of(network, patches), patches, torch.arange(2), torch.ones(1, 2))
        return
    _, diagnostics = run("integrated_gradients", network, patches, settings, n_steps=2, max_steps=2)
    assert (diagnostics["convergence_delta"] < 1e-6).all()


def test_rescale_multipliers_come_closer_to_the_mask_of_the_integral_than_as_many_points_and_to_the_integral(
    patches, settings, resnet
):
    resnet, patches = precise(resnet, patches[:3])
    found = {}
    for rule, nodes in (("gauss_legendre", 16), ("auto", 16), ("auto", 128), ("gauss_legendre", 400)):
        change = {"rule": rule, "n_steps": nodes, "max_steps": nodes}
        found[rule, nodes] = run("integrated_gradients", resnet, patches, settings, 64, **change)[0]
    nodes, few, _, exact = (top_mask(one.sum(1).abs().flatten(1).numpy(), 0.25) for one in found.values())
    error = [1 - overlap(masks, exact).mean() for masks in (few, nodes)]
    assert error[0] < 0.75 * error[1]
    many, exact = list(found.values())[2:]
    assert (many - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_from_a_point_to_itself_the_slope_is_the_gradient(dtype):
    point = (torch.arange(192).view(1, 3, 8, 8).to(dtype) - 96) / 2**16  # one is 0
    weights = torch.rand(3, 1, 1).to(dtype)

    def score(points, rows):
        return (nn.functional.max_pool2d(nn.functional.relu(points), 2) * weights).sum((1, 2, 3))

    _, slopes = mean_multipliers(score, torch.cat([point, point]), torch.zeros(2), torch.tensor([[1.0, 0]]))
    expected = gradient(score, point, torch.zeros(1)).float()
    torch.testing.assert_close(slopes, expected, rtol=0.1 if dtype == torch.float16 else 1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_a_unit_that_stays_on_has_slope_one_also_between_points_a_digit_apart(dtype):
    point = 2.0 ** -(torch.arange(192) % 8).view(1, 3, 8, 8).to(dtype)
    points = torch.cat([point, point * (1 - torch.finfo(dtype).eps)])
    _, slopes = mean_multipliers(
        lambda points, rows: nn.functional.relu(points).sum((1, 2, 3)), points, torch.zeros(2), torch.tensor([[1.0, 0]])
    )
    assert (slopes == 1).all()


def test_a_path_that_is_not_finite_spoils_no_other(patches, settings):
    patches = patches[:4].clone()
    network = Shallow(False).float()
    sound, _ = run("integrated_gradients", network, patches, settings, 5)
    patches[1, :, 5, 5] = torch.inf
    broken, _ = run("integrated_gradients", network, patches, settings, 5)
    assert broken[1].isnan().any()
    torch.testing.assert_close(broken[[0, 2, 3]], sound[[0, 2, 3]])


class Beside(nn.Module):
    """ReLUs of a convolution, and a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow, self.linear = Shallow(False), Linear().double()
        self.eval()

    def forward(self, patches):
        return self.shallow(patches) + self.linear(patches) / 100


def test_where_slopes_would_not_tell_all_the_gradient_is_taken(patches, settings):
    network, patches = Beside(), patches[:2].double()
    found, _ = run("integrated_gradients", network, patches, settings, n_steps=64, max_steps=64)
    points = {"rule": "gauss_legendre", "n_steps": 64, "max_steps": 64}
    expected, _ = run("integrated_gradients", network, patches, settings, **points)
    assert torch.equal(found, expected)
    for bent in (torch.tanh, torch.abs, lambda patches: patches * patches, lambda patches: 1 / (1 + patches)):
        score = make_score(nn.Sequential(Bent(bent), Linear()).eval(), torch.zeros(1), "tumour", "logit")
        with pytest.raises(NotPiecewiseLinearError):
            mean_multipliers(score, patches.float(), torch.zeros(2, dtype=int), torch.ones(1, 2))


class Bent(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


def test_lime_solves_what_scikit_learn_solves():
    random = np.random.default_rng(0)
    z, target, weights = random.integers(0, 2, (3, 40, 7)), random.normal(size=(3, 40)), random.random((3, 40))
    found = regression.weighted_ridge(*map(torch.from_numpy, (z.astype(float), target, weights)), 1.0)
    for row in range(3):
        model = Ridge(alpha=1.0, fit_intercept=False).fit(z[row], target[row], sample_weight=weights[row])
        np.testing.assert_allclose(found.coefficients[row], model.coef_, rtol=1e-8)


def test_lime_agrees_with_the_lime_package_on_the_same_segments_and_samples(patches, settings, resnet):
    change = {"samples": 60, "max_samples": 60, "segments": 16, "sampling": "independent"}
    found, diagnostics = run("lime", resnet, patches[:2], settings, **change)
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = superpixels(pixels, "slic", 16)
        count = labels.max() + 1
        z = sampling.independent(np.random.default_rng(SEEDS[row]), 60, count)
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
    found, diagnostics = run(
        "lime", network, patches[:2], settings, samples=400, max_samples=400, segments=9, ridge=1e-9
    )
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = torch.from_numpy(superpixels(pixels, "slic", 9))
        for segment in range(int(labels.max()) + 1):
            inside = labels == segment
            mean = patches[row][:, inside].mean(1, keepdim=True)
            share = (network.weight[0][:, inside] * (patches[row][:, inside] - mean)).sum()
            torch.testing.assert_close(found[row, 0][inside][0], share, rtol=1e-2, atol=1e-2)
    assert (diagnostics["r2"] > 0.999).all()


def test_input_x_gradient_agrees_with_captum(patches, settings, resnet):
    found, _ = run("input_x_gradient", resnet, patches, settings)
    slow = captum.attr.InputXGradient(resnet).attribute(patches)
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-6)


def test_smoothgrad_without_noise_is_the_gradient(patches, settings, resnet):
    smooth, _ = run("smoothgrad", resnet, patches[:2], settings, samples=3, sigma=0.0)
    plain, _ = run("saliency", resnet, patches[:2], settings)
    torch.testing.assert_close(smooth, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())


def test_smoothgrad_is_the_mean_of_the_gradients_at_its_noisy_patches(patches, settings, resnet):
    resnet, patches = precise(resnet, patches[:1])
    found, _ = run("smoothgrad", resnet, patches, settings, samples=4, sigma=0.2)
    start, length = int(np.random.default_rng(SEEDS[0]).integers(3 * 96 * 96)), 3 * 96 * 96
    noise = smoothgrad._noise(4, length)[:, start : start + length].view(4, 3, 96, 96)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    noisy = patches + 0.2 * noise
    slow = captum.attr.Saliency(resnet).attribute(noisy.double(), abs=False).mean(0)
    torch.testing.assert_close(found[0], slow, rtol=1e-6, atol=1e-9)


def test_occlusion_agrees_with_captum(patches, settings, resnet):
    found, _ = run("occlusion", resnet, patches[:2], settings, window=24, stride=12)
    mean = patches[:2].mean((2, 3), keepdim=True).expand_as(patches[:2])
    slow = captum.attr.Occlusion(resnet).attribute(patches[:2], (3, 24, 24), (3, 12, 12), mean)
    torch.testing.assert_close(found, slow[:, :1], rtol=1e-4, atol=1e-4 * slow.abs().max().item())


def test_occlusion_of_a_linear_network_is_what_the_windows_hold(patches, settings):
    network = Linear()
    found, _ = run("occlusion", network, patches[:2], settings, window=32, stride=32)
    loss = (network.weight * (patches[:2] - patches[:2].mean((2, 3), keepdim=True))).sum(1, keepdim=True)
    sums = torch.nn.functional.avg_pool2d(loss, 32) * 32**2
    expected = torch.nn.functional.interpolate(sums, (96, 96), mode="nearest")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_occlusion_covers_every_pixel_where_the_stride_does_not_fit(patches, settings):
    found, _ = run("occlusion", Linear(), patches[:1], settings, window=20, stride=17)
    assert torch.isfinite(found).all()
    assert (found != 0).all()


@pytest.mark.parametrize("architecture", ["resnet34", "densenet121", "alexnet", "vgg11", "efficientnet_b1"])
def test_grad_cam_agrees_with_captum(architecture, patches, settings):
    network = ready(architecture)
    found, _ = run("grad_cam", network, patches[:2], settings)
    layer = network.backbone.get_submodule(spatial_layer(network))
    slow = captum.attr.LayerGradCam(network, layer).attribute(patches[:2], relu_attributions=True)
    assert min(slow.shape[2:]) > 1
    expected = torch.nn.functional.interpolate(slow, (96, 96), mode="bilinear")
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize(
    "architecture", ["vit_b_16", "timm/vit_tiny_patch16_224", "timm/resnet10t", "timm/test_mambaout"]
)
def test_grad_cam_finds_the_places_of_tokens_and_of_timms_networks(architecture, patches, settings):
    network = ready(architecture)
    torch.nn.init.normal_(network.backbone.get_submodule(network.head).weight)  # ViT's is drawn as zeros
    found, _ = run("grad_cam", network, patches[:4], settings)
    assert (found.flatten(1).amax(1) > 0).any()
    moved = patches[:1].clone()
    moved[:, :, :16, :16] = 1 - moved[:, :, :16, :16]  # the first token's place
    layer = network.backbone.get_submodule(spatial_layer(network))
    before, after = (
        grad_cam._activation_and_gradient(score_of(network, inputs), layer, inputs, torch.zeros(1, dtype=int))[0]
        for inputs in (patches[:1], moved)
    )
    assert before.shape[2] == before.shape[3] > 1
    change = (before - after).abs().sum(1)[0]
    assert change.argmax() == 0


def test_grad_cam_of_a_map_of_one_pixel_is_one_sentence(patches, settings):
    with pytest.raises(ValueError, match="inception_v3 is one pixel at this input size; set input"):
        run("grad_cam", ready("inception_v3"), patches[:1], settings)


def test_grad_cam_of_a_map_that_is_not_found_is_one_sentence(patches, settings):
    network = ready("timm/resnet10t")
    network.backbone.feature_info[-1]["module"] = "stages.9"
    with pytest.raises(ValueError, match="resnet10t is not where its library says; leave grad_cam out"):
        run("grad_cam", network, patches[:1], settings)


def test_kernel_shap_of_a_linear_network_is_each_superpixels_share(patches, settings):
    network = Linear()
    found, diagnostics = run("kernel_shap", network, patches[:2], settings, samples=60, max_samples=60, segments=16)
    pixels = patches[0].permute(1, 2, 0).numpy()
    labels = torch.from_numpy(superpixels(pixels, "slic", 16))
    for segment in range(int(labels.max()) + 1):
        inside = labels == segment
        mean = patches[0][:, inside].mean(1, keepdim=True)
        share = (network.weight[0][:, inside] * (patches[0][:, inside] - mean)).sum()
        torch.testing.assert_close(found[0, 0][inside][0], share, rtol=1e-3, atol=1e-3)
    assert (diagnostics["r2"] > 0.9999).all()


def test_kernel_shap_comes_to_the_shapley_values(patches, settings, resnet):
    segments = 4
    found, _ = run(
        "kernel_shap",
        resnet,
        patches[:1],
        settings,
        superpixels="grid",
        segments=segments,
        samples=1200,
        max_samples=1200,
    )
    pixels = patches[0].permute(1, 2, 0).numpy()
    labels = superpixels(pixels, "grid", segments)
    means = np.stack([pixels[labels == segment].mean(0) for segment in range(segments)])
    worth = {}
    for z in itertools.product((0, 1), repeat=segments):
        shown = np.where(np.array(z)[labels][..., None] > 0, pixels, means[labels])
        worth[z] = resnet(torch.from_numpy(shown).permute(2, 0, 1)[None].float()).item()
    for segment in range(segments):
        share = 0.0
        for z in worth:
            if not z[segment]:
                size = sum(z)
                weight = math.factorial(size) * math.factorial(segments - size - 1) / math.factorial(segments)
                share += weight * (worth[*z[:segment], 1, *z[segment + 1 :]] - worth[z])
        ours = found[0, 0][torch.from_numpy(labels == segment)][0].item()
        assert ours == pytest.approx(share, rel=0.05, abs=0.02 * max(map(abs, worth.values())))
    total = sum(found[0, 0][torch.from_numpy(labels == segment)][0].item() for segment in range(segments))
    assert total == pytest.approx(worth[1, 1, 1, 1] - worth[0, 0, 0, 0], rel=1e-4)


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_a_patch_of_one_superpixel_has_a_constant_map(method, patches, settings):
    whole, few = np.zeros((1, 96, 96), np.int64), chosen(settings, method, samples=8, max_samples=8)
    score, module = score_of(Linear(), patches[:1]), plugins.load(plugins.METHODS, "method", method)
    found, diagnostics = module.attribute(score, patches[:1], SEEDS[:1], few, Batch(8), superpixels=whole)
    assert diagnostics["superpixels"].tolist() == [1]
    assert found.unique().numel() == 1


def test_orthogonal_samples_are_balanced_over_any_three_superpixels_and_each_is_uniform_on_its_own():
    z = sampling.orthogonal(np.random.default_rng(0), 2 * 16, 11)
    assert (z[1::2] == 1 - z[::2]).all()
    for some in itertools.combinations(range(11), 3):
        patterns = np.unique(z[2:, some], axis=0, return_counts=True)[1]
        assert sorted(patterns) in ([3] * 2 + [4] * 6, [4] * 6 + [3] * 2)  # the first pair is the patch itself
    several = np.stack([sampling.orthogonal(np.random.default_rng(seed), 64, 11)[2:] for seed in range(400)])
    np.testing.assert_allclose(several.mean((0, 1)), 0.5, atol=0.01)
    sizes = several.sum(2)
    assert sizes.var() == pytest.approx(11 / 4, rel=0.05)  # binomial, as of independent draws
    assert np.isin(sizes, (0, 11)).mean() < 0.01  # 2 in 2,048; without random signs every matrix has such a row


def test_orthogonal_samples_balance_the_interaction_of_two_superpixels():
    """A model with a strong interaction: it does not disturb the coefficients, as it does with independent draws."""
    spread = {}
    for kind, draw in SAMPLING.items():
        found = []
        for seed in range(40):
            z = torch.from_numpy(draw(np.random.default_rng(seed), 64, 8))[None].double()
            both = 5 * (z[..., 0] - 0.5) * (z[..., 1] - 0.5)
            centred = z - z.mean(1, keepdim=True)
            target = both + z @ torch.arange(8.0).double()
            fit = regression.weighted_ridge(centred, target - target.mean(), torch.ones_like(target), 1e-9)
            found.append(fit.coefficients[0])
        spread[kind] = torch.stack(found).std(0).mean().item()
    assert spread["orthogonal"] < 1e-6 < 0.1 < spread["independent"]


def test_superpixels_that_touch_are_found_in_pairs_and_triples():
    pairs, triples = interactions.adjacent(np.array([[0, 0, 1], [2, 2, 1], [2, 3, 3]]))
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert triples.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert [len(members) for members in interactions.adjacent(np.zeros((4, 4), int))] == [0, 0]


def everything(count):
    """All draws [2 ** count, count], opposites side by side and, as in draws, first the whole and the empty patch."""
    z = torch.tensor(list(itertools.product((1.0, 0.0), repeat=count)), dtype=torch.float64)[: 2 ** (count - 1)]
    return torch.stack([z, 1 - z], 1).flatten(0, 1)


def test_the_coefficients_of_interactions_are_those_of_all_samples():
    z, random = everything(7), np.random.default_rng(0)
    groups = interactions.adjacent(np.arange(7)[None])
    effects = tuple(torch.from_numpy(random.normal(size=len(members))) for members in groups)
    target = sum((2 * z - 1)[:, members].prod(2) @ found for members, found in zip(groups, effects, strict=True))
    weights = kernel(z[None], torch.tensor([7]), "distance", 0.25)
    alone = kernel(torch.ones(1, 8, 7).tril(-1), torch.tensor([7]), "distance", 0.25)[0].double().numpy()
    found = interactions._lime_coefficients(groups, effects, alone, len(z), 1.0)
    centred = [regression.centred(values[None], weights) for values in (z, target)]
    torch.testing.assert_close(
        found, regression.weighted_ridge(*centred, weights, 1.0).coefficients[0], rtol=1e-5, atol=1e-7
    )


def test_what_neighbours_do_together_disturbs_half_as_much_and_the_coefficients_stay_what_they_are():
    random, count = np.random.default_rng(0), 16
    groups = interactions.adjacent(np.arange(count).reshape(4, 4))
    effects = [torch.from_numpy(random.normal(size=len(members))) for members in groups]
    main = 3 * torch.from_numpy(random.normal(size=count))

    def coefficients(z, plain):
        scores = z @ main + sum((2 * z - 1)[:, some].prod(2) @ one for some, one in zip(groups, effects, strict=True))
        weights = kernel(z[None], torch.tensor([count]), "distance", 0.25)
        weights[:, :2] = 0
        centred = [regression.centred(values[None], weights) for values in (z, scores)]
        if plain:
            return regression.weighted_ridge(*centred, weights, 1e-9).coefficients[0]
        alone = kernel(torch.ones(1, 17, 16).tril(-1), torch.tensor([count]), "distance", 0.25)[0].numpy()
        taken = interactions.interactions(z, scores, groups, alone, 1e-9)
        centred[1] = regression.centred((scores - taken.contributions)[None], weights)
        return regression.weighted_ridge(*centred, weights, 1e-9).coefficients[0] + taken.coefficients

    exact = coefficients(everything(count), plain=True)
    error = {}
    for plain in (True, False):
        generators = map(np.random.default_rng, range(20))
        samples = [torch.from_numpy(sampling.orthogonal(random, 256, count)).double() for random in generators]
        found = torch.stack([coefficients(z, plain) for z in samples])
        error[plain] = (found - exact).square().mean().sqrt()
        assert (found.mean(0) - exact).square().mean().sqrt() < 0.4 * error[plain]
    assert error[False] < 0.5 * error[True]


def test_interactions_do_not_depend_on_where_the_scores_begin():
    groups, random = interactions.adjacent(np.arange(16).reshape(4, 4)), np.random.default_rng(0)
    z = torch.from_numpy(sampling.orthogonal(random, 64, 16)).double()
    scores = torch.from_numpy(random.normal(size=64))
    one, other = (interactions.interactions(z, scores + start, groups, np.ones(17), 1.0) for start in (0, 1e4))
    torch.testing.assert_close(
        (one.contributions, one.coefficients, one.influence), (other.contributions, other.coefficients, other.influence)
    )


@pytest.mark.slow
def test_orthogonal_samples_without_interactions_come_closer_to_the_map_of_many_samples(patches, settings, resnet):
    many = {"segments": 50, "samples": 1000, "max_samples": 1000}
    exact = run("lime", resnet, patches[:2], settings, 64, sampling="independent", **many)[0]
    few, seeds = {"segments": 50, "samples": 128, "max_samples": 128}, [range(s, s + 2) for s in (0, 9, 18)]
    distance = {}
    for kind in SAMPLING:
        change = {**few, **(INTERACTIONS if kind == "orthogonal" else {})}
        maps = [run("lime", resnet, patches[:2], settings, 64, sample, **change)[0] for sample in seeds]
        distance[kind] = np.mean([(found - exact).square().mean().item() for found in maps])
    assert distance["orthogonal"] < 0.7 * distance["independent"]


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"sampling": "orthogonal"},
        {"sampling": "orthogonal", "interactions": True},
    ],
    ids=["as published", "orthogonal", "without interactions"],
)
def test_the_stability_that_is_stated_is_the_one_that_other_samples_show(patches, settings, resnet, variant):
    change = {"segments": 36, "samples": 150, "max_samples": 150, **variant}
    maps, stated = [], []
    for draw in range(4):
        seeds = [seed + draw for seed in SEEDS]
        found, diagnostics = run("lime", resnet, patches[:4], settings, 64, seeds, **change)
        maps.append(top_mask(found.abs().flatten(1).numpy(), 0.25))
        stated.append(diagnostics["stability"].mean().item())
    shown = np.mean([overlap(a, b).mean() for a, b in itertools.combinations(maps, 2)])
    assert np.mean(stated) == pytest.approx(shown, abs=0.1)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_interactions_of_superpixels_far_apart_are_in_the_stability_that_is_stated(strength, settings):
    """A score of pairs that do not touch: nothing takes them out, and the kernel's weights let them disturb."""
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
    found, diagnostics = attribute("lime", score, patch.expand(8, -1, -1, -1), range(8), change, Batch(64))
    maps = top_mask(found.abs().flatten(1).numpy(), 0.25)
    shown = np.mean([overlap(a[None], b[None]).mean() for a, b in itertools.combinations(maps, 2)])
    assert diagnostics["stability"].mean().item() == pytest.approx(shown, abs=0.1)


def test_samples_are_added_until_the_mask_is_stable_and_no_further(patches, settings, resnet):
    change = {"segments": 16, "samples": 50, "max_samples": 600}
    _, easy = run("lime", resnet, patches[:4], settings, 64, tolerance=0.5, **change)
    _, hard = run("lime", resnet, patches[:4], settings, 64, tolerance=0.1, **change)
    assert (easy["samples"] < hard["samples"]).any()
    for found, tolerance in ((easy, 0.5), (hard, 0.1)):
        converged = found["stability"] >= 1 - tolerance
        assert (found["unconverged"].bool() == ~converged).all()
        assert (found["samples"][~converged] == 600).all()


def test_shares_of_superpixels_are_the_mask_of_their_map():
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, (5, 96 * 96))
    values = random.integers(0, 4, (5, 9)).astype(float)  # with ties
    sizes = torch.from_numpy(np.stack([np.bincount(row, minlength=12) for row in labels])).double()
    padded = torch.nn.functional.pad(torch.from_numpy(values), (0, 3))
    shares = surrogate.top_shares(padded, sizes, 0.25).numpy()
    expected = top_mask(np.take_along_axis(values, labels, 1), 0.25)
    np.testing.assert_allclose(np.take_along_axis(shares, labels, 1), expected, rtol=1e-6)


def test_random_maps_differ_between_networks_and_are_the_same_again(patches, settings):
    one, other = ready("timm/resnet10t"), ready("timm/resnet10t", seed=1)
    first, again, different = (run("random", net, patches, settings)[0] for net in (one, one, other))
    assert torch.equal(first, again)
    masks = [top_mask(maps.flatten(1).numpy(), 0.25) for maps in (first, different)]
    assert overlap(*masks).mean() == pytest.approx(chance_iou(0.25), abs=0.01)


def test_the_centre_is_highest_in_the_middle_and_the_same_for_all(patches, settings):
    found, _ = run("centre", Linear(), patches, settings)
    assert (found[:, 0, 47:49, 47:49] == found.max()).all()
    assert torch.equal(found[0], found[-1])


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(patches, settings):
    class Narrow(Linear):
        seen = 0

        def forward(self, inputs):
            self.seen = max(self.seen, len(inputs))
            if len(inputs) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(inputs)

    batch = Batch(16)
    score = make_score(Narrow(), torch.zeros(8), "tumour", "logit")
    found, _ = attribute("smoothgrad", score, patches, SEEDS, chosen(settings, "smoothgrad", samples=3), batch)
    assert batch.size <= 5
    torch.testing.assert_close(found, score.network.weight.expand_as(found), rtol=1e-4, atol=1e-5)


class Overflowing(nn.Module):
    """A network that gives no number for one patch, known by its first pixel."""

    def __init__(self, network, pixel) -> None:
        super().__init__()
        self.network, self.backbone, self.pixel = network, network.backbone, pixel
        self.architecture, self.head, self.size = network.architecture, network.head, network.size
        self.eval()

    def forward(self, inputs):
        mark = (inputs[:, :, 0, 0] == self.pixel).all(1)
        return self.network(inputs) * torch.where(mark, torch.nan, 1.0)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("random", "centre")])
def test_a_patch_without_a_finite_score_is_flagged_and_spoils_no_other(method, patches, settings, resnet):
    patches = patches.clone()
    pixel = patches[3, :, 0, 0] = torch.tensor([0.123, 0.456, 0.789])
    rule = {"rule": "gauss_legendre"} if method == "integrated_gradients" else {}  # the second network is not linear
    cheap = chosen(settings, method, **CHEAP.get(method, {}) | rule)
    sound, broken = (
        explain_patches(network, patches, SEEDS, method, cheap, settings.explain, Batch(8))
        for network in (resnet, Overflowing(resnet, pixel))
    )
    assert not sound["nonfinite"].any()
    assert broken["nonfinite"].tolist() == [row == 3 for row in range(8)]
    assert broken["constant"][3]
    rest = [row for row in range(8) if row != 3]
    np.testing.assert_array_equal(sound["heatmaps"][rest], broken["heatmaps"][rest])


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "lime"])
def test_reduced_precision_and_storage_keep_the_mask(method, patches, settings, resnet, tmp_path):
    save_checkpoint(resnet, tmp_path / "network.safetensors")
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    masks, logits = {}, {}
    for precision in ("32", "bf16"):
        network = load_classifier(tmp_path / "network.safetensors", torch.device("cpu"), precision)
        found = explain_patches(network, patches[:4], SEEDS[:4], method, cheap, settings.explain, Batch(16))
        logits[precision] = found["logits"]
        masks[precision] = top_mask(found["heatmaps"].astype(np.float32).reshape(4, -1), 0.25)
    attribution, _ = run(method, resnet, patches[:4], settings, **CHEAP.get(method, {}))
    exact, _ = normalise(reduce(attribution.numpy(), cheap.reduce))
    exact_masks = top_mask(exact.reshape(4, -1), 0.25)
    assert overlap(masks["32"], exact_masks).min() > 0.99
    assert overlap(masks["bf16"], exact_masks).mean() > 0.6
    assert (logits["bf16"] != logits["32"]).any()  # the setting does something


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_in_reduced_precision(method, patches, settings, tmp_path):
    save_checkpoint(ready("timm/test_byobnet"), tmp_path / "network.safetensors")
    network = load_classifier(tmp_path / "network.safetensors", torch.device("cpu"), "bf16")
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    found = explain_patches(network, patches[:2], SEEDS[:2], method, cheap, settings.explain, Batch(16))
    assert not found["constant"].any()


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_many_is_one_at_a_time(method, patches, settings, resnet):
    resnet, patches = precise(resnet, patches)
    together, _ = run(method, resnet, patches, settings, 32, **CHEAP.get(method, {}))
    for row in range(0, 8, 3):
        alone, _ = run(method, resnet, patches[row : row + 1], settings, 1, SEEDS[row:], **CHEAP.get(method, {}))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-6, atol=1e-6 * alone.abs().max().item())


@pytest.fixture(scope="module", params=ARCHITECTURES)
def drawn(request: pytest.FixtureRequest) -> tuple[str, Classifier]:
    """A row of the table of networks, and it as drawn: once for all methods, which is much faster."""
    return request.param, ready(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_explaining_gives_heatmaps_and_leaves_the_network_as_it_was(method, drawn, patches, settings):
    architecture, network = drawn
    if (architecture, method) == ("inception_v3", "grad_cam"):
        network = ready(architecture, input_size="architecture")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    few = {"samples": 10, "max_samples": 10} if method in ("lime", "kernel_shap") else {}
    cheap = chosen(settings, method, **CHEAP.get(method, {}) | few)
    first, second = (
        explain_patches(network, patches[:2], SEEDS[:2], method, cheap, settings.explain, Batch(16)) for _ in range(2)
    )
    assert first["heatmaps"].shape == (2, 96, 96)
    assert first["heatmaps"].dtype == np.float16
    assert (first["heatmaps"] >= 0).all()
    said = ~first["constant"]
    np.testing.assert_allclose(first["heatmaps"][said].astype(float).mean((1, 2)), 1, rtol=1e-2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
