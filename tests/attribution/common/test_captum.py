"""Captum's methods: what Captum gives by hand, whatever the batches; seeds; what cannot be explained."""

import subprocess
import sys

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from conftest import CHEAP, attribute, chosen, ready
from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.inference.batch import Batch
from small_networks import SEEDS, precise, run

NETWORKS = ["timm/test_resnet", "alexnet"]
OF_CAPTUM = {
    "guided_backprop": "GuidedBackprop",
    "deconvolution": "Deconvolution",
    "deep_lift": "DeepLift",
    "deep_lift_shap": "DeepLiftShap",
    "gradient_shap": "GradientShap",
    "feature_ablation": "FeatureAblation",
    "shapley_value_sampling": "ShapleyValueSampling",
}
HOOKS = ["guided_backprop", "deconvolution", "deep_lift", "deep_lift_shap"]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest):
    return ready(request.param)


def by_hand(method, network, patches, settings):
    """As Captum's documentation does it; a patch at a time where what it is given belongs to the patch."""
    explainer = getattr(captum.attr, OF_CAPTUM[method])(network)
    if method in ("guided_backprop", "deconvolution"):
        return explainer.attribute(patches)
    if method == "deep_lift":
        return explainer.attribute(patches, baseline(patches, settings.baseline)).detach()
    return torch.cat([_one_by_hand(method, explainer, patch[None], settings) for patch in patches]).detach()


def _one_by_hand(method, explainer, patch, settings):
    if method in ("deep_lift_shap", "gradient_shap"):
        baselines = torch.cat([baseline(patch, kind) for kind in settings.baselines])
        samples = {"n_samples": settings.samples, "stdevs": settings.sigma} if method == "gradient_shap" else {}
        return explainer.attribute(patch, baselines, **samples)
    labels = superpixels_of_all(patch.float().permute(0, 2, 3, 1).numpy(), settings.superpixels, settings.segments)
    labels = torch.from_numpy(labels.astype(np.int64))[:, None]
    off = patch.clone()
    for label in labels.unique():
        inside = (labels == label)[0, 0]
        off[0, :, inside] = patch[0, :, inside].mean(1, keepdim=True)
    samples = {"n_samples": settings.permutations} if method == "shapley_value_sampling" else {}
    return explainer.attribute(patch, off, feature_mask=labels, perturbations_per_eval=4, **samples)[:, :1]


@pytest.mark.filterwarnings("ignore:.*(backward hooks|required_grads)")
@pytest.mark.parametrize("method", [*HOOKS, "feature_ablation"])
def test_an_attribution_is_what_captum_gives_by_hand(method, network, patches, settings):
    network, patches = precise(network, patches[:2])
    cheap = CHEAP.get(method, {})
    attribution, _ = run(method, network, patches, settings, **cheap)
    expected = by_hand(method, network, patches, chosen(settings, method, **cheap))
    torch.testing.assert_close(attribution, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("method", ["gradient_shap", "shapley_value_sampling"])
def test_random_numbers_are_captums_own_from_the_seed_of_the_patch(method, network, patches, settings):
    network, patches = precise(network, patches[:2])
    cheap = CHEAP[method] | ({"sigma": 0.1} if method == "gradient_shap" else {})
    kept = torch.get_rng_state(), np.random.get_state()[1].copy()
    attribution, _ = run(method, network, patches, settings, **cheap)
    assert torch.equal(kept[0], torch.get_rng_state())
    np.testing.assert_array_equal(kept[1], np.random.get_state()[1])
    for row in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(SEEDS[row])
            np.random.seed([SEEDS[row] >> 32, SEEDS[row] & 0xFFFFFFFF])
            expected = by_hand(method, network, patches[row : row + 1], chosen(settings, method, **cheap))
        torch.testing.assert_close(
            attribution[row], expected[0].to(attribution), rtol=1e-5, atol=1e-6 * expected.abs().max().item()
        )


@pytest.mark.parametrize("method", OF_CAPTUM)
def test_batches_of_any_size_give_the_same(method, network, patches, settings):
    network, patches = precise(network, patches[:3])
    whole, one = (run(method, network, patches, settings, size, **CHEAP.get(method, {}))[0] for size in (64, 1))
    torch.testing.assert_close(whole, one, rtol=1e-6, atol=1e-6 * one.abs().max().item())


@pytest.mark.parametrize("method", OF_CAPTUM)
def test_no_more_inputs_go_through_the_network_at_once_than_batch_says(method, patches, settings, resnet):
    class Narrow(nn.Module):
        most = 0

        def forward(self, inputs):
            self.most = max(self.most, inputs.shape[0])
            if inputs.shape[0] > 5:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return resnet(inputs)

    score = make_score(Narrow().eval(), torch.zeros(8), "tumour", "logit")
    change = CHEAP.get(method, {}) | ({"samples": 12} if method == "gradient_shap" else {})
    block, batch = chosen(settings, method, **change), Batch(12)
    attribution, _ = attribute(method, score, patches, SEEDS, block, batch)
    assert score.network.most > 5 >= batch.size
    expected, _ = run(method, resnet, patches, settings, 5, **change)
    torch.testing.assert_close(attribution, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_modules_that_are_used_again_and_functions_are_hooked_like_modules_of_their_own(patches, settings):
    """torchvision's ResNet uses one ReLU several times, which Captum refuses by hand."""

    class Block(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 5, 3), nn.Conv2d(4, 4, 5, 3)
            self.third, self.last = nn.Conv2d(4, 4, 3, 2), nn.Linear(64, 1)
            self.relu = nn.ReLU(inplace=again)
            self.others = [self.relu, nn.functional.relu] if again else nn.ModuleList([nn.ReLU(), nn.ReLU()])
            self.eval()

        def forward(self, patches):
            hidden = self.others[0](self.second(self.relu(self.first(patches))))
            return self.last(self.others[1](self.third(hidden)).flatten(1))[:, 0]

    network, plain = Block(again=True), Block(again=False)
    plain.load_state_dict(network.state_dict())
    for method in HOOKS[:3]:
        attribution, diagnostics = run(method, network, patches[:2], settings)
        expected = by_hand(method, plain, patches[:2], chosen(settings, method))
        torch.testing.assert_close(attribution, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())
    assert (diagnostics["convergence_delta"] < 1e-3).all()  # without pooling, Captum's DeepLIFT adds up


@pytest.mark.parametrize("method", HOOKS)
def test_torchvisions_resnet_is_explained(method, patches, settings):
    attribution, _ = run(method, ready("resnet18"), patches[:1], settings)
    assert attribution.isfinite().all()
    assert attribution.abs().amax() > 0


@pytest.mark.parametrize(
    ("method", "architecture", "reason"),
    [
        ("deep_lift", "timm/test_byobnet", "computes mul"),
        ("deep_lift", "timm/test_efficientnet", "computes silu"),
        ("deep_lift_shap", "timm/test_efficientnet", "computes silu"),
        ("guided_backprop", "timm/test_efficientnet", "has no ReLU"),
        ("deconvolution", "timm/test_vit", "has no ReLU"),
    ],
)
def test_a_network_that_a_method_cannot_explain_is_named_with_the_reason(
    method, architecture, reason, patches, settings
):
    with pytest.raises(
        ValueError, match=f"Captum's .* cannot explain {architecture}, which {reason}.*; use saliency, "
    ):
        run(method, ready(architecture), patches[:1], settings)


@pytest.mark.parametrize("method", ["deep_lift", "deep_lift_shap"])
def test_a_first_patch_without_a_finite_score_spoils_no_other(method, patches, settings, resnet):
    patches = patches[:3].clone()
    patches[:, :, :, 48:] = 1  # as the baseline: there nothing changes
    sound, _ = run(method, resnet, patches, settings)
    patches[0, :, 5, 5] = torch.nan
    broken, _ = run(method, resnet, patches, settings)
    assert not broken[0].isfinite().all()
    torch.testing.assert_close(broken[1:], sound[1:], rtol=1e-4, atol=1e-5 * sound.abs().max().item())


@pytest.mark.parametrize("method", HOOKS)
def test_the_score_may_be_a_probability_or_the_predicted_class(method, patches, settings, resnet):
    patches = patches[:2]
    logit, _ = run(method, resnet, patches, settings)
    logits = torch.tensor([1.0, -1.0])
    predicted = make_score(resnet, logits, "predicted", "logit")
    other, _ = attribute(method, predicted, patches, SEEDS[:2], chosen(settings, method), Batch(4))
    torch.testing.assert_close(other[0], logit[0])
    assert (other[1] != logit[1]).any()
    probability = make_score(resnet, logits, "tumour", "probability")
    smaller, _ = attribute(method, probability, patches, SEEDS[:2], chosen(settings, method), Batch(4))
    assert 0 < smaller.abs().max() < logit.abs().max()


def test_captum_is_imported_by_what_runs_it_alone():
    code = (
        "import sys; from pcam_agreement.core import plugins\n"
        "for name in plugins.available(plugins.METHODS): plugins.load(plugins.METHODS, 'method', name)\n"
        "assert 'torch' in sys.modules and 'captum' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
