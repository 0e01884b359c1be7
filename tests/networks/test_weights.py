"""Starting weights from a file of tensors."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.classifier import build_classifier


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
        ValueError, match=r"a\.safetensors has no head of one logit \(classifier\.6\), and without epochs"
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
