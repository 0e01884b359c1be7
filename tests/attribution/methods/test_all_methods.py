"""What holds for every method."""

import zlib

import numpy as np
import pytest
import torch
from torch import nn

from conftest import (
    ARCHITECTURES,
    CAMS,
    CHEAP,
    METHODS,
    OF_TRANSFORMERS,
    attribute,
    chosen,
    explain_patches,
    explainable,
    ready,
)
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.heatmaps.masks import normalise, overlap, reduce, top_mask
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import Classifier
from small_networks import SEEDS, Linear, precise, run

# What a method cannot explain: tests of its file see that it says so.
DEEP_LIFT, MODIFIED = ("deep_lift", "deep_lift_shap"), ("guided_backprop", "deconvolution")
REFUSED = {(method, network) for method in (*DEEP_LIFT, *MODIFIED) for network in ("vit_b_16", "efficientnet_b1")}
REFUSED.add(("lrp", "vit_b_16"))
ASKING = [name for name in METHODS if name not in ("random", "centre")]  # the others ask no network
CHEAPER = {  # for networks of full size
    **{name: {"samples": 10, "max_samples": 10} for name in ("lime", "kernel_shap")},
    "integrated_gradients": {"n_steps": 2, "max_steps": 4},
    "rise": {"masks": 10},
}


def test_every_file_of_methods_has_a_block_in_params_and_every_block_a_file(raw):
    assert set(METHODS) == set(raw["method"])


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_many_is_one_at_a_time(method, patches, settings):
    network, patches = precise(ready(explainable(method, "timm/test_resnet")), patches)
    together, _ = run(method, network, patches, settings, 32, **CHEAP.get(method, {}))
    for row in range(0, 8, 3):
        alone, _ = run(method, network, patches[row : row + 1], settings, 1, SEEDS[row:], **CHEAP.get(method, {}))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-6, atol=1e-6 * alone.abs().max().item())


class Overflowing(nn.Module):
    """A network that gives no number for one patch, known by its first pixel."""

    def __init__(self, network, pixel) -> None:
        super().__init__()
        self.network, self.backbone, self.pixel = network, network.backbone, pixel
        self.architecture, self.head, self.size = network.architecture, network.head, network.size
        self.pooling = network.pooling
        self.eval()

    def forward(self, inputs):
        mark = (inputs[:, :, 0, 0] == self.pixel).all(1)
        return self.network(inputs) * torch.where(mark, torch.nan, 1.0)


# DeepLIFT cannot explain the second network, which is not piecewise linear: it has a test of its own.
@pytest.mark.parametrize("method", [name for name in ASKING if name not in DEEP_LIFT])
def test_a_patch_without_a_finite_score_is_flagged_and_spoils_no_other(method, patches, settings):
    network, patches = ready(explainable(method, "timm/test_resnet")), patches.clone()
    pixel = patches[3, :, 0, 0] = torch.tensor([0.123, 0.456, 0.789])
    rule = {"rule": "gauss_legendre"} if method == "integrated_gradients" else {}  # the second network is not linear
    cheap = chosen(settings, method, **CHEAP.get(method, {}) | rule)
    sound, broken = (
        explain_patches(explained, patches, SEEDS, method, cheap, settings.explain, Batch(8))
        for explained in (network, Overflowing(network, pixel))
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
        result = explain_patches(network, patches[:4], SEEDS[:4], method, cheap, settings.explain, Batch(16))
        logits[precision] = result["logits"]
        masks[precision] = top_mask(result["heatmaps"].astype(np.float32).reshape(4, -1), 0.25)
    attribution, _ = run(method, resnet, patches[:4], settings, **CHEAP.get(method, {}))
    exact, _ = normalise(reduce(attribution.numpy(), cheap.reduce))
    exact_masks = top_mask(exact.reshape(4, -1), 0.25)
    assert overlap(masks["32"], exact_masks).min() > 0.99
    assert overlap(masks["bf16"], exact_masks).mean() > 0.6
    assert (logits["bf16"] != logits["32"]).any()  # the setting does something


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_in_reduced_precision(method, patches, settings, tmp_path):
    architecture = "timm/test_resnet" if method in DEEP_LIFT else explainable(method, "timm/test_byobnet")
    save_checkpoint(ready(architecture), tmp_path / "network.safetensors")
    network = load_classifier(tmp_path / "network.safetensors", torch.device("cpu"), "bf16")
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    result = explain_patches(network, patches[:2], SEEDS[:2], method, cheap, settings.explain, Batch(16))
    assert not result["constant"].any()


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
    attribution, _ = attribute("smoothgrad", score, patches, SEEDS, chosen(settings, "smoothgrad", samples=3), batch)
    assert batch.size <= 5
    torch.testing.assert_close(attribution, score.network.weight.expand_as(attribution), rtol=1e-4, atol=1e-5)


def contents(network) -> dict[str, int]:
    return {name: zlib.crc32(tensor.contiguous().numpy()) for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def built(request: pytest.FixtureRequest) -> tuple[str, Classifier, dict[str, int]]:
    """An architecture, its untrained network and what that contains: once for all methods, which is much faster."""
    network = ready(request.param)
    return request.param, network, contents(network)


@pytest.mark.slow
@pytest.mark.parametrize("method", ASKING)
def test_explaining_gives_heatmaps_and_leaves_the_network_as_it_was(method, built, patches, settings):
    architecture, network, before = built
    if (method, architecture) in REFUSED:
        pytest.skip(f"{method} cannot explain {architecture}")
    if method in OF_TRANSFORMERS and architecture != "vit_b_16":
        pytest.skip("the method refuses a network without attention: see test_attention.py")
    if architecture == "inception_v3" and method in CAMS:
        network = ready(architecture, input_size="architecture")
        before = contents(network)
    cheap = chosen(settings, method, **CHEAP.get(method, {}) | CHEAPER.get(method, {}))
    first, second = (
        explain_patches(network, patches[:2], SEEDS[:2], method, cheap, settings.explain, Batch(16)) for _ in range(2)
    )
    assert first["heatmaps"].shape == (2, 96, 96)
    assert first["heatmaps"].dtype == np.float16
    assert (first["heatmaps"] >= 0).all()
    valid = ~first["constant"]
    np.testing.assert_allclose(first["heatmaps"][valid].astype(float).mean((1, 2)), 1, rtol=1e-2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert contents(network) == before
    assert not network.training
