"""timm's models: weights from a file, and a sentence for what cannot be had."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from pcam_agreement.networks.classifier import build_classifier, check_size


def test_timm_weights_are_read_from_a_file(tmp_path, monkeypatch):
    torch.manual_seed(1)
    published = timm.create_model("resnet10t")
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors")}
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **given: create(*args, pretrained_cfg_overlay=overlay, **given)
    )
    network = build_classifier("timm/resnet10t", "default", "native")
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], published.state_dict()["conv1.0.weight"])
    assert network.backbone.fc.weight.shape == (1, 512)


def test_timm_networks_that_cannot_be_had_are_one_sentence():
    with pytest.raises(ValueError, match=r"timm has no weights 'resnet18.a1_in1l'; did you mean resnet18.a1_in1k"):
        build_classifier("timm/resnet18.a1_in1l", "none", "native")
    without = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(ValueError, match="set its weights to none or a path"):
        build_classifier(f"timm/{without}", "default", "native")
    with pytest.raises(ValueError, match="has several heads"):
        build_classifier("timm/repvit_m0_9", "none", "native")


def test_a_size_that_a_model_of_timm_cannot_take_is_one_sentence():
    with pytest.raises(ValueError, match=r"halonet26t cannot take patches of 96 pixels \(AssertionError\); set its"):
        check_size("timm/halonet26t", "native")
