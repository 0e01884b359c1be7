"""Any classifier of torchvision or timm: build, one training step, save, load."""

import filecmp

import pytest
import torch

from conftest import ARCHITECTURES, ready
from pcam_agreement.core import plugins
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import build_classifier, of_shapes

CPU = torch.device("cpu")
FAMILIES = [
    *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"),
    *("googlenet", "swin_t", "convnext_tiny", "regnet_y_400mf"),
]
TIMM = ["timm/resnet10t", "timm/vit_tiny_patch16_224"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *FAMILIES, *TIMM])
def test_every_architecture_trains_a_step_and_comes_back_from_disk(architecture, patches, tmp_path):
    torch.manual_seed(0)
    network = build_classifier(architecture, "none", "native").train()
    optimiser = torch.optim.SGD(network.parameters(), 1e-4)
    head = network.backbone.get_submodule(network.head).weight
    before = head.detach().clone()
    torch.nn.functional.binary_cross_entropy_with_logits(network(patches[:3]), torch.tensor([1.0, 0, 1])).backward()
    optimiser.step()
    optimiser.zero_grad()  # VGG's gradients are half a gigabyte
    assert not torch.equal(head, before)
    save_checkpoint(network, tmp_path / "a.safetensors")
    again = load_classifier(tmp_path / "a.safetensors", CPU)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(patches[:3]), network(patches[:3]), rtol=1e-3, atol=1e-5)
    save_checkpoint(network, tmp_path / "b.safetensors")
    assert filecmp.cmp(tmp_path / "a.safetensors", tmp_path / "b.safetensors", shallow=False)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *TIMM])
def test_an_untrained_network_has_every_tensor_initialised_anew(architecture):
    """Between two seeds only what starts as a constant is equal: the weights of norms, biases, class tokens."""
    one, other = (ready(architecture, seed).state_dict() for seed in (0, 1))
    for name, tensor in one.items():
        constant = not tensor.is_floating_point() or tensor.numel() == 0 or tensor.min() == tensor.max()
        assert constant or not torch.equal(tensor, other[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vit_b_16", "inception_v3", "alexnet", "timm/vit_tiny_patch16_224"])
def test_at_the_architectures_own_size_patches_are_still_96_pixels(architecture, patches):
    network = ready(architecture, input_size="architecture")
    assert network.size in (224, 299)
    inputs = patches[:1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(inputs).sum(), inputs)
    assert gradient.shape == (1, 3, 96, 96)
    assert gradient.abs().sum() > 0


def test_one_patch_keeps_its_batch_axis(patches, resnet):
    assert resnet(patches[:1]).shape == (1,)


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        *(("grad_cam", "resnet18"), ("hires_cam", "timm/test_vit"), ("deep_lift", "timm/test_resnet")),
        *(("attention_rollout", "vit_b_16"), ("generic_attention", "timm/test_vit"), ("guided_backprop", "alexnet")),
        *(("attn_lrp", "timm/test_vit"), ("attn_lrp", "vit_b_16")),
    ],
)
def test_whether_a_method_can_explain_a_network_is_found_without_values(method, architecture):
    devices = []

    def check(network):
        plugins.load(plugins.METHODS, "method", method).check_network(network)
        devices.extend({parameter.device.type for parameter in network.parameters()})

    of_shapes(check, architecture, "native", "published", ())
    assert devices == ["meta"]
