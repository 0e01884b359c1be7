"""Weights of given networks that are replaced after a run, which DVC does not watch."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pcam_agreement.networks.checkpoint import read_checkpoint, save_checkpoint
from pcam_agreement.networks.classifier import build_classifier
from pcam_agreement.pipeline.given import replaced
from published import publish
from repository import ROOT, Toy


def checkpoint(folder: Path, architecture: str, weights: str, training: str = "1") -> Path:
    """Of a recipe called mine."""
    path = folder / "mine" / f"{training}.safetensors"
    save_checkpoint(build_classifier(architecture, weights, "native"), path)
    return path


def block(architecture: str, weights: str, **more) -> dict:
    mine = {"architecture": architecture, "weights": weights, **more}
    return {"recipes": ["mine"], "trainings": [1, 2, "untrained"], "train": {}, "network": {"mine": mine}}


def write(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(build_classifier("timm/test_resnet", "none", "native").backbone.state_dict(), path)
    return path


def test_a_file_of_weights_that_is_another_now_is_one_sentence_with_the_stages_to_run(tmp_path):
    weights = write(tmp_path / "a.safetensors", 0)
    raw, path = block("timm/test_resnet", str(weights)), checkpoint(tmp_path, "timm/test_resnet", str(weights))
    assert replaced(raw, path) == ""
    write(weights, 1)
    stages = "features@mine train@mine-1 train@mine-2"
    assert replaced(raw, path) == (
        f"{weights} has changed since mine-1 was made of it, which DVC does not watch; put it back, or run "
        f"dvc repro --force --single-item {stages} and then again."
    )
    given = {**raw, "network": {"mine": {**raw["network"]["mine"], "epochs": 0}}}
    assert "features@mine train@mine-1 and" in replaced(given, path)
    write(weights, 0)
    assert replaced(raw, path) == ""
    weights.unlink()
    assert replaced(raw, path) == ""


def test_of_a_file_for_each_training_only_the_trainings_of_those_that_changed_are_run_again(tmp_path):
    for training in (1, 2):
        write(tmp_path / f"{training}.safetensors", training)
    raw = block("timm/test_resnet", str(tmp_path / "{training}.safetensors"), epochs=0)
    paths = [checkpoint(tmp_path, "timm/test_resnet", str(tmp_path / f"{t}.safetensors"), t) for t in "12"]
    write(tmp_path / "2.safetensors", 3)
    assert replaced(raw, paths[0]) == ""
    assert "features@mine train@mine-2 and" in replaced(raw, paths[1])


def test_the_weights_of_a_folder_are_compared_and_networks_without_a_file_are_not(tmp_path):
    publish(tmp_path / "published", "test_resnet")
    architecture = f"local-dir:{tmp_path / 'published'}"
    raw, path = block(architecture, "default"), checkpoint(tmp_path, architecture, "default")
    assert replaced(raw, path) == ""
    publish(tmp_path / "published", "test_resnet", classes=3)
    assert "published/model.safetensors has changed since mine-1" in replaced(raw, path)
    assert replaced(raw, checkpoint(tmp_path, "timm/test_resnet", "none", "untrained")) == ""
    path.write_text("not read")
    assert replaced(block("timm/test_resnet", "none"), path) == ""


def test_a_checkpoint_that_is_read_and_written_says_what_it_was_made_of(tmp_path):
    path = checkpoint(tmp_path, "timm/test_resnet", str(write(tmp_path / "a.safetensors", 0)))
    save_checkpoint(read_checkpoint(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


class Copying(Toy):
    """Its networks are checkpoints that were made before."""

    PIPELINE = """
stages:
  train:
    matrix: {recipe: "${recipes}", training: [1]}
    cmd: mkdir -p data/mine && cp ../mine/${item.training}.safetensors data/mine
    params: ["network.${item.recipe}"]
    outs: ["data/mine/${item.training}.safetensors"]
"""


@pytest.mark.slow
def test_make_repro_stops_where_the_weights_of_a_finished_network_were_replaced(tmp_path):
    weights = write(tmp_path / "a.safetensors", 0)
    checkpoint(tmp_path, "timm/test_resnet", str(weights))
    toy = Copying(tmp_path / "toy", "mine")
    toy.write({**block("timm/test_resnet", str(weights)), "trainings": [1]})
    toy.sign("")
    command = ("env", f"PYTHONPATH={ROOT / 'src'}", "python", "-m", "pcam_agreement.pipeline.parallel")
    assert "1 done in" in toy.run(*command)
    assert "1 up to date in" in toy.run(*command)
    write(weights, 1)
    said = toy.run(*command, check=False)
    assert "a.safetensors has changed since mine-1 was made of it" in said
    assert "failed: train@mine-1" in said
