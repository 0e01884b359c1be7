"""torchvision's classifiers: what its registry says of them, and what is special about some."""

import re
from pathlib import Path

import pytest
import torch
import torchvision

from conftest import ARCHITECTURES, ready
from pcam_agreement.networks.classifier import blank_classifier, build_classifier, check_size

HEADS = [  # RegNet is not among them: it needs values to be built
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *("swin_t", "swin_v2_t", "vgg11", "vit_b_16"),
]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty folder where torch looks for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "size"), [*((name, "native") for name in ARCHITECTURES), ("alexnet", "architecture")]
)
def test_default_weights_are_read_from_where_torchvision_keeps_them(architecture, size, hub):
    torch.manual_seed(1)
    options = {"init_weights": False} if architecture == "inception_v3" else {}
    with torch.device("meta"):  # weights as torchvision draws them take seconds
        blank = torchvision.models.get_model(architecture, weights=None, **options).state_dict()
    published = {name: (100 * torch.rand(tensor.shape)).to(tensor.dtype) for name, tensor in blank.items()}
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    torch.save(published, hub / weights.url.rpartition("/")[2])
    network = build_classifier(architecture, "default", size)
    own = network.backbone.state_dict()
    for name, tensor in published.items():
        if name.startswith(("AuxLogits.", network.head + ".")) or name == "encoder.pos_embedding":
            continue
        assert torch.equal(own[name], tensor), name
    assert own[network.head + ".weight"].shape[0] == 1


def test_weights_that_could_run_code_are_refused(hub):
    name = torchvision.models.get_model_weights("alexnet").DEFAULT.url.rpartition("/")[2]
    torch.save({"features.0.weight": re.compile("x"), "code": Path}, hub / name)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        build_classifier("alexnet", "default", "native")


def test_the_size_mean_and_deviation_are_those_of_the_librarys_registry():
    for name in ("resnet34", "efficientnet_b1", "swin_t"):
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        network = ready(name, input_size="architecture")
        assert network.size == preset.crop_size[0]
        assert (network.mean.flatten().tolist(), network.std.flatten().tolist()) == (
            pytest.approx(preset.mean),
            pytest.approx(preset.std),
        )
    # torchvision normalises as for ImageNet, then Inception's transform_input undoes it
    assert ready("inception_v3").mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_inception_sees_what_torchvisions_own_switch_would_give_it(patches):
    torch.manual_seed(0)
    network = build_classifier("inception_v3", "none", "native").eval()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    network.backbone.transform_input = True
    with torch.no_grad():
        theirs = network.backbone((patches - mean) / std)[:, 0]
        network.backbone.transform_input = False
        torch.testing.assert_close(network(patches), theirs, rtol=1e-4, atol=1e-5)


def test_every_head_is_the_layer_whose_weights_depend_on_the_number_of_classes():
    models = torchvision.models
    for name in HEADS:
        with torch.device("meta"):
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            shapes = [
                {
                    key: tensor.shape
                    for key, tensor in models.get_model(name, num_classes=n, **options).state_dict().items()
                }
                for n in (1, 2)
            ]
        heads = [key for key in shapes[0] if shapes[0][key] != shapes[1][key] and not key.lower().startswith("aux")]
        assert heads[0] == blank_classifier(name, "architecture").head + ".weight", name


def test_the_logit_of_a_squeezenet_can_be_negative(patches):
    assert any((ready("squeezenet1_1", seed)(patches) < 0).any() for seed in range(3))


def test_an_architecture_that_cannot_take_the_patches_is_one_sentence():
    with pytest.raises(
        ValueError, match=r"maxvit_t cannot take patches of 96 pixels \(shape .* is invalid.*; set its input"
    ):
        check_size("maxvit_t", "native")
    check_size("maxvit_t", "architecture")
    with pytest.raises(ValueError, match=r"vit_h_14 cannot .* 96 pixels, no multiple of its tokens' 14; set its input"):
        blank_classifier("vit_h_14", "native")  # without its 632 million weights
