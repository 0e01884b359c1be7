"""Checkpoints: what they state, and what is wrong with a file that is none."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import ready
from pcam_agreement.networks.checkpoint import backbone_sha256, read_checkpoint, save_checkpoint
from pcam_agreement.networks.classifier import build_classifier
from published import publish


def test_a_checkpoint_states_its_architecture_and_holds_tensors_only(tmp_path):
    save_checkpoint(ready("timm/resnet10t"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        stated = json.loads(file.metadata()["network"])
    assert stated == {
        "architecture": "timm/resnet10t",
        "input": "native",
        "mean": pytest.approx([0.485, 0.456, 0.406]),
        "std": pytest.approx([0.229, 0.224, 0.225]),
    }
    assert "fc.weight" in load_file(tmp_path / "a.safetensors")


def test_a_checkpoint_that_is_missing_foreign_or_cut_is_one_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="is missing; run the train stage"):
        read_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        read_checkpoint(path)
    save_checkpoint(ready("timm/resnet10t"), path)
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        read_checkpoint(path)


def test_a_checkpoint_with_broken_metadata_is_one_sentence_that_names_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    unknown = '{"architecture": "alexnett", "input": "native", "mean": [0], "std": [1]}'
    for text in ("{", "[1]", "1", "null", '{"input": "native"}', '{"architecture": 1, "input": "native"}', unknown):
        save_file({"x": torch.zeros(1)}, path, {"network": text})
        with pytest.raises(ValueError, match=r"a\.safetensors is not a checkpoint of this project \("):
            read_checkpoint(path)


def test_reading_a_checkpoint_takes_no_random_numbers_and_gives_every_tensor_back(tmp_path):
    network = ready("alexnet")
    save_checkpoint(network, tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    again = read_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def frozen(weights: str, architecture: str = "timm/test_vit", **more) -> object:
    network = build_classifier(architecture, weights, "native", **more).eval()
    network.freeze()
    return network


@pytest.mark.parametrize("pooling", ["published", "token_and_mean"])
def test_of_a_frozen_network_the_head_is_written_and_the_backbone_named(pooling, tmp_path, patches):
    publish(tmp_path / "published", "vit_tiny_patch16_224", 0, img_size=96, reg_tokens=4, depth=2)
    network = frozen("default", f"local-dir:{tmp_path / 'published'}", pooling=pooling, normalisation="imagenet")
    path = tmp_path / "a.safetensors"
    save_checkpoint(network, path)
    head = {"published": "head", "token_and_mean": "head.1"}[pooling]
    assert set(load_file(path)) == {f"{head}.weight", f"{head}.bias"}
    with safe_open(path, "pt") as file:
        stated = json.loads(file.metadata()["network"])
    assert stated["backbone"] == {"weights": "default", "sha256": backbone_sha256(network)}
    assert stated.get("pooling", "published") == pooling
    before = torch.get_rng_state()
    again = read_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not again.training
    torch.testing.assert_close(again(patches), network(patches), rtol=0, atol=0)
    save_checkpoint(again, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_the_backbone_of_a_frozen_network_that_is_gone_or_another_one_is_one_sentence(tmp_path):
    weights, path = tmp_path / "weights.safetensors", tmp_path / "a.safetensors"
    state = build_classifier("timm/test_vit", "none", "native").backbone.state_dict()
    save_file(state, weights)
    save_checkpoint(frozen(str(weights)), path)
    read_checkpoint(path)
    save_file({**state, "cls_token": state["cls_token"] + 1e-6}, weights)
    with pytest.raises(ValueError, match=r"was trained on a frozen timm/test_vit with .* put back those of then, or"):
        read_checkpoint(path)
    weights.unlink()
    with pytest.raises(
        ValueError, match=r"holds the head of a frozen timm/test_vit alone, .*weights\.safetensors are mis"
    ):
        read_checkpoint(path)


def test_another_number_in_position_embeddings_that_are_resampled_is_another_backbone(tmp_path):
    weights, path = tmp_path / "weights.safetensors", tmp_path / "a.safetensors"
    state = build_classifier("timm/test_vit", "none", "architecture").backbone.state_dict()
    save_file(state, weights)
    network = frozen(str(weights))
    assert network.backbone.pos_embed.shape != state["pos_embed"].shape
    save_checkpoint(network, path)
    read_checkpoint(path)
    state["pos_embed"][0, 0, 0] += 1
    save_file(state, weights)
    with pytest.raises(ValueError, match=r"was trained on a frozen timm/test_vit with .* put back those of then, or"):
        read_checkpoint(path)


def test_the_hash_of_a_backbone_is_that_of_its_tensors_whatever_file_and_head_they_come_with(tmp_path):
    state = build_classifier("timm/test_resnet", "none", "native").backbone.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    reordered = {f"model.{name}": state[name] for name in sorted(state, reverse=True) if not name.startswith("fc.")}
    torch.save({"state_dict": reordered}, tmp_path / "b.ckpt")
    first, again = (
        backbone_sha256(frozen(str(tmp_path / name), "timm/test_resnet")) for name in ("a.safetensors", "b.ckpt")
    )
    assert first == again
    assert backbone_sha256(ready("timm/test_resnet", seed=1)) != first


def test_a_frozen_network_with_random_weights_or_with_layers_that_are_trained_is_written_whole(tmp_path):
    save_checkpoint(frozen("none"), tmp_path / "a.safetensors")
    partly = frozen(str(tmp_path / "a.safetensors"))
    partly.freeze(["norm"])
    save_checkpoint(partly, tmp_path / "b.safetensors")
    for name in ("a", "b"):
        assert "cls_token" in load_file(tmp_path / f"{name}.safetensors")
        read_checkpoint(tmp_path / f"{name}.safetensors")
