"""Rescale multipliers: sums by hand, DeepLIFT, the integral, and networks that are not piecewise linear."""

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from conftest import ARCHITECTURES, attribute, chosen, ready
from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.rescale import NotPiecewiseLinearError, mean_multipliers
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.methods import integrated_gradients
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.inference.batch import Batch
from small_networks import SEEDS, Linear, precise, run, score_of


class Shallow(nn.Module):
    """One layer of ReLUs, or of the larger of two lines."""

    def __init__(self, pool: bool, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 32, 32, dtype=torch.float64)
        self.nonlinear = nn.MaxPool2d((1, 3)) if pool else nn.ReLU(inplace)
        self.last = nn.Linear(12 if pool else 36, 1, dtype=torch.float64)
        self.eval()

    def forward(self, patches):
        return self.last(self.nonlinear(self.first(patches)).flatten(1))[:, 0]


def test_twice_as_many_steps_halve_them():
    assert integrated_gradients.step_ends(5)[[0, -1]].tolist() == [0, 1]
    np.testing.assert_allclose(integrated_gradients.step_ends(10)[::2], integrated_gradients.step_ends(5))


@pytest.mark.parametrize("network", [Shallow(False), Shallow(False, inplace=True), Shallow(True)])
def test_a_single_step_is_the_integral_of_a_network_with_one_nonlinear_layer(network, patches, settings):
    """By hand: each unit's weight to the score, times how much of the path it is on, or leads."""
    patches = patches[:4].double()
    attribution, _ = run("integrated_gradients", network, patches, settings, n_steps=1, max_steps=1)
    with torch.no_grad():
        white, at = network.first(torch.ones_like(patches)), network.first(patches)
        time = torch.linspace(0.5e-4, 1 - 0.5e-4, 10_000, dtype=torch.float64).view(-1, 1, 1, 1, 1)
        values = torch.lerp(white, at, time)
        if isinstance(network.nonlinear, nn.MaxPool2d):
            on = (values == values.amax(-1, keepdim=True)).double().mean(0)
            weight = network.last.weight.view(1, 4, 3, 1)
        else:
            on, weight = (values > 0).double().mean(0), network.last.weight.view(1, 4, 3, 3)
    mean = torch.nn.functional.conv_transpose2d(on * weight, network.first.weight, stride=32)
    expected = (mean * (patches - 1)).detach()
    torch.testing.assert_close(attribution, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_a_single_step_is_deep_lift(patches, settings):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 7, 3), nn.ReLU(), nn.Conv2d(8, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1)]
    network = nn.Sequential(*layers).double().eval()
    patches = patches[:4].double()
    network(patches)
    score = make_score(nn.Sequential(network, nn.Flatten(0)).eval(), patches.new_zeros(4), "tumour", "logit")
    change = chosen(settings, "integrated_gradients", n_steps=1, max_steps=1)
    attribution, _ = attribute("integrated_gradients", score, patches, SEEDS[:4], change, Batch(3))
    expected = captum.attr.DeepLift(network).attribute(patches, torch.ones_like(patches))
    torch.testing.assert_close(attribution, expected.detach(), rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_multipliers_add_up_to_the_change_of_the_score_or_the_network_is_known_to_be_smooth(
    architecture, patches, settings
):
    network, patches = ready(architecture).double(), patches[:2].double()
    if architecture in ("vit_b_16", "efficientnet_b1"):
        with pytest.raises(NotPiecewiseLinearError):
            mean_multipliers(score_of(network, patches), patches, torch.arange(2), torch.ones(1, 2))
        return
    _, diagnostics = run("integrated_gradients", network, patches, settings, n_steps=2, max_steps=2)
    assert (diagnostics["convergence_delta"] < 1e-6).all()


@pytest.mark.slow
def test_multipliers_converge_to_the_integral_and_faster_than_gradients_at_as_many_points(patches, settings, resnet):
    resnet, patches = precise(resnet, patches[:2])
    maps = {}
    for rule, n_steps in (("gauss_legendre", 16), ("auto", 16), ("auto", 96), ("gauss_legendre", 200)):
        change = {"rule": rule, "n_steps": n_steps, "max_steps": n_steps}
        maps[rule, n_steps] = run("integrated_gradients", resnet, patches, settings, 64, **change)[0]
    points, steps, _, exact = (top_mask(values.sum(1).abs().flatten(1).numpy(), 0.25) for values in maps.values())
    error = [1 - overlap(masks, exact).mean() for masks in (steps, points)]
    assert error[0] < 0.75 * error[1]
    many, exact = list(maps.values())[2:]
    assert (many - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_from_a_point_to_itself_the_multiplier_is_the_gradient(dtype):
    point = (torch.arange(192).view(1, 3, 8, 8).to(dtype) - 96) / 2**16  # one is 0
    weights = torch.rand(3, 1, 1).to(dtype)

    def score(points, rows):
        return (nn.functional.max_pool2d(nn.functional.relu(points), 2) * weights).sum((1, 2, 3))

    _, multipliers = mean_multipliers(score, torch.cat([point, point]), torch.zeros(2), torch.tensor([[1.0, 0]]))
    expected = gradient(score, point, torch.zeros(1)).float()
    torch.testing.assert_close(multipliers, expected, rtol=0.1 if dtype == torch.float16 else 1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_a_unit_that_stays_on_has_multiplier_one_also_between_points_a_digit_apart(dtype):
    point = 2.0 ** -(torch.arange(192) % 8).view(1, 3, 8, 8).to(dtype)
    points = torch.cat([point, point * (1 - torch.finfo(dtype).eps)])
    _, multipliers = mean_multipliers(
        lambda points, rows: nn.functional.relu(points).sum((1, 2, 3)), points, torch.zeros(2), torch.tensor([[1.0, 0]])
    )
    assert (multipliers == 1).all()


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


class Smooth(nn.Module):
    """A function of the pixels."""

    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


def test_where_multipliers_would_miss_a_way_to_the_score_the_gradient_is_taken(patches, settings):
    network, patches = Beside(), patches[:2].double()
    attribution, _ = run("integrated_gradients", network, patches, settings, n_steps=64, max_steps=64)
    points = {"rule": "gauss_legendre", "n_steps": 64, "max_steps": 64}
    expected, _ = run("integrated_gradients", network, patches, settings, **points)
    assert torch.equal(attribution, expected)
    for function in (torch.tanh, torch.abs, lambda patches: patches * patches, lambda patches: 1 / (1 + patches)):
        score = make_score(nn.Sequential(Smooth(function), Linear()).eval(), torch.zeros(1), "tumour", "logit")
        with pytest.raises(NotPiecewiseLinearError):
            mean_multipliers(score, patches.float(), torch.zeros(2, dtype=int), torch.ones(1, 2))
