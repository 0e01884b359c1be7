"""LRP: relevance that adds up, zennit's composite, the same blocks of another library, gates, what is refused."""

import pytest
import timm
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from conftest import ready
from pcam_agreement.attribution.methods.lrp import check_network
from pcam_agreement.inference.load import fold_batch_norms
from pcam_agreement.networks.classifier import Classifier
from small_networks import precise, run


class Branches(nn.Module):
    """Without biases: a residual addition, in place or not, a concatenation, average and maximum pooling."""

    def __init__(self, inplace: bool, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.inplace, self.gate = inplace, gate
        self.first, self.second = nn.Conv2d(3, 8, 5, 2, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.third, self.head = nn.Conv2d(16, 8, 3, 2, bias=False), nn.Linear(8, 1, bias=False)
        self.relu = nn.ReLU(inplace)

    def forward(self, patches):
        before = nn.functional.max_pool2d(self.relu(self.first(patches)), 3, 2)
        after = self.second(before)
        if self.gate is not None:
            after = self.gate(after)
        if self.inplace:
            after += before
        else:
            after = before + after
        beside = nn.functional.avg_pool2d(before, 3, 1, 1)
        mixed = self.relu(self.third(torch.cat([self.relu(after), beside], 1)))
        return self.head(mixed.mean((2, 3)))


class Gate(nn.Module):
    """Squeeze and excitation, by a weight for each channel, or by what that was before."""

    def __init__(self, fixed=None) -> None:
        super().__init__()
        self.squeeze, self.fixed = nn.Conv2d(8, 8, 1), fixed

    def forward(self, maps):
        if self.fixed is not None:
            return maps * self.fixed
        self.last = self.squeeze(maps.mean((2, 3), keepdim=True)).sigmoid()
        return self.last * maps


def classifier(backbone, size: int = 96) -> Classifier:
    network = Classifier("branches", backbone, "head", size, [0.5] * 3, [0.25] * 3)
    return network.eval().requires_grad_(False)


def branches(inplace: bool, size: int = 96, gate: nn.Module | None = None) -> Classifier:
    torch.manual_seed(0)
    return classifier(Branches(inplace, gate), size)


def used(network: Classifier) -> Classifier:
    """With batch norms that do something, whose epsilon zennit leaves behind where it merges them: here none."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.1)
            module.eps = 1e-14
    return network


@pytest.mark.parametrize("size", [96, 128])
@pytest.mark.parametrize("inplace", [False, True])
def test_relevance_adds_up_to_the_logit_of_a_relu_network_without_biases(size, inplace, patches, settings):
    network, patches = precise(branches(inplace, size), patches)
    attribution, _ = run("lrp", network, patches, settings)
    logits = network(patches)
    assert logits.abs().amin() > 1e-3
    torch.testing.assert_close(attribution.sum((1, 2, 3)), logits, rtol=1e-3, atol=0)  # but for the epsilon
    assert attribution.std() > 0


@pytest.mark.parametrize(
    ("architecture", "canonizers"),
    [
        *(("alexnet", ()), ("resnet18", (ResNetCanonizer,))),
        pytest.param("vgg11_bn", (VGGCanonizer,), marks=pytest.mark.slow),
        pytest.param("resnet50", (ResNetCanonizer,), marks=pytest.mark.slow),
    ],
)
def test_it_is_zennits_epsilon_plus_flat(architecture, canonizers, patches, settings):
    network = ready(architecture)
    if architecture == "vgg11_bn":  # narrow, as its own layers and zennit's copies of them take gigabytes
        head = network.backbone.classifier
        head[0], head[3], head[6] = nn.Linear(head[0].in_features, 16), nn.Linear(16, 16), nn.Linear(16, 1)
    network, patches = precise(used(network), patches[:2])
    inputs = ((patches - network.mean) / network.std).requires_grad_()
    network.requires_grad_(True)
    with EpsilonPlusFlat(canonizers=[kind() for kind in canonizers]).context(network.backbone) as composed:
        logits = composed(inputs)
        (expected,) = torch.autograd.grad(logits, inputs, logits.detach())
    network.requires_grad_(False)
    fold_batch_norms(network.backbone)
    attribution, _ = run("lrp", network, patches, settings)
    torch.testing.assert_close(attribution, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_it_is_zennits_also_where_a_convolution_is_given_negative_values(patches, settings):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, 3), nn.SiLU(), nn.Conv2d(8, 8, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(1800, 1)]
    network = Classifier("smooth", nn.Sequential(*layers), "5", 96, [0.5] * 3, [0.25] * 3).eval()
    network, patches = precise(network, patches)
    inputs = ((patches - network.mean) / network.std).requires_grad_()
    with EpsilonPlusFlat().context(network.backbone) as composed:
        logits = composed(inputs)
        (expected,) = torch.autograd.grad(logits, inputs, logits.detach())
    attribution, _ = run("lrp", network.requires_grad_(False), patches, settings)
    torch.testing.assert_close(attribution, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_timms_resnet_is_explained_like_torchvisions_of_the_same_weights(patches, settings):
    network, patches = precise(used(ready("resnet18")), patches[:2])
    backbone = timm.create_model("resnet18", num_classes=1).double()
    backbone.load_state_dict(network.backbone.state_dict())
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14
    other = Classifier(
        "timm/resnet18", backbone, "fc", 96, network.mean.flatten().tolist(), network.std.flatten().tolist()
    )
    other.double()
    expected, _ = run("lrp", network, patches, settings)
    attribution, _ = run("lrp", other.eval().requires_grad_(False), patches, settings)
    torch.testing.assert_close(attribution, expected, rtol=1e-6, atol=1e-9 * expected.abs().max().item())


def test_a_gate_takes_no_relevance(patches, settings):
    network, patches = precise(branches(False, gate=Gate()), patches)
    attribution, _ = run("lrp", network, patches, settings)
    network(patches)
    network.backbone.gate.fixed = network.backbone.gate.last
    expected, _ = run("lrp", network, patches, settings)
    torch.testing.assert_close(attribution, expected, rtol=1e-9, atol=0)


def test_what_is_for_one_class_is_against_the_other(patches, settings):
    network, patches = precise(branches(False), patches)
    tumour, _ = run("lrp", network, patches, settings)
    network.backbone.head.weight.neg_()
    normal, _ = run("lrp", network, patches, settings)
    torch.testing.assert_close(tumour, -normal, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        *(("vit_b_16", "layer_norm"), ("timm/test_vit4", "rms_norm"), ("convnext_tiny", "layer_norm")),
        *(("timm/ecaresnet26t", "conv1d"),),
    ],
)
def test_a_network_without_a_rule_for_what_it_computes_is_one_sentence(architecture, reason):
    with pytest.raises(
        ValueError, match=rf"cannot explain {architecture} .*: {reason}; use .*attn_lrp for a transform"
    ):
        check_network(ready(architecture))


@pytest.mark.parametrize("method", ["lrp", "attn_lrp"])
def test_a_convolution_whose_arguments_are_named_is_one_whose_are_not(method, patches, settings):
    """As timm's blurred pooling calls it."""

    class Named(nn.Conv2d):
        def forward(self, maps):
            return nn.functional.conv2d(maps, self.weight, padding=1, groups=8)

    layers = [kind(8, 8, 3, padding=1, groups=8, bias=False) for kind in (nn.Conv2d, Named)]
    layers[1].load_state_dict(layers[0].state_dict())
    explained = []
    for layer in layers:
        network, inputs = precise(branches(False, gate=layer), patches)
        explained.append(run(method, network, inputs, settings)[0])
    torch.testing.assert_close(*explained, rtol=1e-9, atol=0)


def test_a_product_of_two_maps_is_refused(patches, settings):
    class Square(nn.Module):
        def forward(self, maps):
            return maps * maps

    with pytest.raises(ValueError, match=r"cannot explain branches .*: the product or ratio of two maps; use"):
        run("lrp", branches(False, gate=Square()), patches, settings)


@pytest.mark.parametrize(
    "architecture",
    [
        *("timm/test_byobnet", "timm/test_efficientnet", "densenet121", "inception_v3", "mobilenet_v3_small"),
        *("timm/seresnet18", "timm/resnetv2_50", "timm/nfnet_f0", "squeezenet1_0"),
    ],
)
def test_gates_smooth_activations_and_concatenations_have_rules(architecture):
    check_network(ready(architecture))
