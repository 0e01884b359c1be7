"""Starting weights from a file of tensors."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from pcam_agreement.networks.checkpoint import read_checkpoint, save_checkpoint
from pcam_agreement.networks.classifier import build_classifier
from repository import ROOT

SHARED = ROOT.parent / "shared"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_path_are_those_of_the_file(suffix, tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.alexnet()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(published.state_dict(), path)
    network = build_classifier("alexnet", str(path), "native")
    assert torch.equal(network.backbone.features[0].weight, published.features[0].weight)
    own = tmp_path / "own.safetensors"
    save_checkpoint(network, own)
    again = build_classifier("alexnet", str(own), "native")  # a checkpoint of ours brings its head along
    assert torch.equal(again.backbone.classifier[6].weight, network.backbone.classifier[6].weight)


def test_a_head_that_is_not_in_the_file_is_new_or_an_error(tmp_path):
    save_file(torchvision.models.alexnet().state_dict(), tmp_path / "a.safetensors")
    build_classifier("alexnet", str(tmp_path / "a.safetensors"), "native")
    with pytest.raises(
        ValueError, match=r"the head in .*a\.safetensors has 1000 outputs, and a network that is taken as it is"
    ):
        build_classifier("alexnet", str(tmp_path / "a.safetensors"), "native", new_head=False)


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="are missing; give a path"):
        build_classifier("alexnet", str(tmp_path / "none.pth"), "native")
    for name in ("features.0.weight", "classifier.6.other"):
        save_file({name: torch.zeros(1)}, tmp_path / "a.safetensors")
        with pytest.raises(ValueError, match="does not fit alexnet"):
            build_classifier("alexnet", str(tmp_path / "a.safetensors"), "native")
    for junk in ([torch.zeros(1)], {"features.0.weight": 1}):
        torch.save(junk, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="is not a state dict of tensors alone"):
            build_classifier("alexnet", str(tmp_path / "a.pth"), "native")
    (tmp_path / "a.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="is not a state dict of tensors alone"):
        build_classifier("alexnet", str(tmp_path / "a.pth"), "native")


def test_auxiliary_heads_in_the_file_are_left_out(tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.googlenet(init_weights=True)
    save_file(published.state_dict(), tmp_path / "a.safetensors")
    network = build_classifier("googlenet", str(tmp_path / "a.safetensors"), "native")
    assert torch.equal(network.backbone.conv1.conv.weight, published.conv1.conv.weight)


def test_a_head_of_two_outputs_becomes_the_difference_of_the_logits_of_its_classes(tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.resnet18(num_classes=2).eval()
    save_file(published.state_dict(), tmp_path / "two.safetensors")
    patches = torch.rand(4, 3, 96, 96)
    for tumour_class, sign in ((1, 1), (0, -1)):
        network = build_classifier(
            "resnet18", str(tmp_path / "two.safetensors"), "native", False, "none", tumour_class
        ).eval()
        with torch.no_grad():
            normal, tumour = published(patches).T
            torch.testing.assert_close(network(patches), sign * (tumour - normal), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_taken_as_it_is_needs_a_head(tmp_path):
    state = torchvision.models.alexnet(num_classes=1).state_dict()
    path = tmp_path / "a.safetensors"
    save_file({name: tensor for name, tensor in state.items() if name != "classifier.6.bias"}, path)
    with pytest.raises(ValueError, match=r"has no head \(classifier\.6\.bias\), and without epochs none"):
        build_classifier("alexnet", str(path), "native", new_head=False)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "net.model."])
def test_a_prefix_that_all_names_have_is_taken_off_and_what_lightning_saves_beside_them_is_left(prefix, tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.resnet18(num_classes=1)
    state = {prefix + name: tensor for name, tensor in published.state_dict().items()}
    if prefix:
        state["loss.pos_weight"] = torch.ones(1)
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{"step": torch.ones(1)}]}, tmp_path / "a.ckpt")
    network = build_classifier("resnet18", str(tmp_path / "a.ckpt"), "native", new_head=False)
    for name, tensor in published.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], tensor), name


def test_position_embeddings_of_another_size_are_resampled_and_half_precision_becomes_single(tmp_path):
    torch.manual_seed(1)
    published = timm.create_model("test_vit", num_classes=0, img_size=224)
    half = {name: tensor.half() for name, tensor in published.state_dict().items()}
    save_file(half, tmp_path / "a.safetensors")
    network = build_classifier("timm/test_vit", str(tmp_path / "a.safetensors"), "native")
    assert network.backbone.pos_embed.shape[1] == 6 * 6 + 1
    assert network.backbone.pos_embed.dtype == torch.float32
    assert torch.equal(network.backbone.blocks[0].attn.qkv.weight, half["blocks.0.attn.qkv.weight"].float())


def test_normalisation_is_what_is_published_or_what_is_asked_for():
    patches = torch.rand(2, 3, 96, 96)
    for name, mean, std in (("none", 0.0, 1.0), ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])):
        torch.manual_seed(0)
        network = build_classifier("timm/test_vit", "none", "native", normalisation=name).eval()
        by_hand = (patches - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
        torch.testing.assert_close(network(patches), network.backbone(by_hand)[:, 0])
    published = build_classifier("timm/test_vit", "none", "native")
    assert published.mean.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.skipif(not (SHARED / "weights").exists(), reason="the pretrained networks are not here")
@pytest.mark.parametrize(
    ("architecture", "file", "size"),
    [
        ("timm/tf_efficientnet_lite0", "tf_efficientnet_lite0.imagenet.safetensors", 96),
        ("timm/vit_small_patch14_dinov2", "vit_small_patch14_dinov2.fp16.safetensors", 98),
    ],
)
def test_pretrained_networks_load_with_a_new_head_at_a_size_that_tokens_divide(architecture, file, size, tmp_path):
    network = build_classifier(architecture, str(SHARED / "weights" / file), "native").eval()
    assert network.size == size
    patches = torch.rand(2, 3, 96, 96)
    save_checkpoint(network, tmp_path / "a.safetensors")
    torch.testing.assert_close(read_checkpoint(tmp_path / "a.safetensors")(patches), network(patches))
