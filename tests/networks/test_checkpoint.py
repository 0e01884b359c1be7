"""Checkpoints: what they state, and what is wrong with a file that is none."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import ready
from pcam_agreement.networks.checkpoint import read_checkpoint, save_checkpoint


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
