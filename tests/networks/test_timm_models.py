"""timm's models: weights from a file, and a sentence for what cannot be had."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from pcam_agreement.networks.checkpoint import read_checkpoint, save_checkpoint
from pcam_agreement.networks.classifier import build_classifier, check_size
from published import publish


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


TRANSFORMERS = {
    "class token": {},
    "registers": {"reg_tokens": 4},
    "mean as published": {"global_pool": "avg"},  # its norm is behind the pooling
    "unpooled as published": {"global_pool": "", "reg_tokens": 2},
}


@pytest.mark.parametrize("pooling", ["token", "mean", "token_and_mean"])
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_the_head_reads_the_tokens_that_pooling_names(kind, pooling, tmp_path, patches):
    options = TRANSFORMERS[kind]
    model = publish(tmp_path, "vit_tiny_patch16_224", 0, img_size=96, depth=2, **options)
    network = build_classifier(f"local-dir:{tmp_path}", "default", "native", pooling=pooling).eval()
    with torch.no_grad():
        tokens = model.fc_norm(model.norm(_before_norm(model, (patches - network.mean) / network.std)))
        read = {"token": tokens[:, 0], "mean": tokens[:, 1 + options.get("reg_tokens", 0) :].mean(1)}
        expected = torch.cat([values for name, values in read.items() if name in pooling], 1)
        layer = network.head_layer()
        torch.testing.assert_close(network(patches), layer(expected)[:, 0], rtol=1e-4, atol=1e-5)
    save_checkpoint(network, tmp_path / "a.safetensors")
    torch.testing.assert_close(read_checkpoint(tmp_path / "a.safetensors")(patches), network(patches))


def _before_norm(model, inputs):
    return model.blocks(model.norm_pre(model._pos_embed(model.patch_embed(inputs))))


def test_a_head_for_pooled_tokens_comes_along_with_a_checkpoint_of_ours(tmp_path, patches):
    network = build_classifier("timm/test_vit", "none", "native", pooling="mean").eval()
    save_checkpoint(network, tmp_path / "a.safetensors")
    again = build_classifier("timm/test_vit", str(tmp_path / "a.safetensors"), "native", False, pooling="mean").eval()
    assert torch.equal(again(patches), network(patches))


@pytest.mark.parametrize(
    ("architecture", "pooling", "expected"),
    [
        ("timm/test_resnet", "token", "is no vision transformer whose tokens are pooled before its head"),
        ("timm/vit_base_patch16_siglip_224", "mean", "is no vision transformer whose tokens are pooled before"),
        ("timm/vit_base_patch16_gap_224", "token", "has no class token for pooling token; set it to mean"),
        ("resnet18", "mean", "is torchvision's, and pooling and options are for models of timm"),
    ],
)
def test_pooling_that_a_network_does_not_have_is_one_sentence(architecture, pooling, expected):
    with pytest.raises(ValueError, match=expected):
        check_size(architecture, "architecture", pooling)


def test_unpooled_tokens_need_a_pooling(tmp_path):
    publish(tmp_path, "vit_tiny_patch16_224", 0, img_size=96, depth=1, global_pool="")
    with pytest.raises(ValueError, match="leaves its tokens unpooled; set pooling to token, mean or token_and_mean"):
        check_size(f"local-dir:{tmp_path}", "native")


@pytest.mark.parametrize("where", ["config.json", "the recipe"])
def test_layers_that_python_takes_as_classes_are_known_by_their_names(where, tmp_path, patches):
    """A small network in the form of UNI 2 and Virchow 2, whose config.json leaves out what JSON has no word for."""
    shape = {"img_size": 98, "patch_size": 14, "depth": 2, "reg_tokens": 8, "no_embed_class": True, "init_values": 1e-5}
    shape |= {"mlp_ratio": 2.66667 * 2, "dynamic_img_size": True}
    torch.manual_seed(0)
    classes = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=1, **shape, **classes).eval()
    names = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
    publish(tmp_path, "vit_tiny_patch16_224", 1, **shape, **(names if where == "config.json" else {}), state=model)
    options = tuple(names.items()) if where == "the recipe" else ()
    check_size(f"local-dir:{tmp_path}", "native", "published", options)
    network = build_classifier(f"local-dir:{tmp_path}", "default", "native", False, options=options).eval()
    assert network.size == 98
    with torch.no_grad():
        larger = torch.nn.functional.interpolate(patches, (98, 98), mode="bilinear", antialias=True)
        torch.testing.assert_close(network(patches), model(larger)[:, 0], rtol=1e-4, atol=1e-5)
    save_checkpoint(network, tmp_path / "a.safetensors")
    torch.testing.assert_close(read_checkpoint(tmp_path / "a.safetensors")(patches), network(patches))


def test_options_are_for_timms_own_models_too_and_one_that_it_does_not_know_is_one_sentence(tmp_path):
    network = build_classifier("timm/test_vit", "none", "native", options=[("reg_tokens", 3)])
    assert network.backbone.num_prefix_tokens == 4
    save_checkpoint(network, tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors").backbone.num_prefix_tokens == 4
    for options, expected in (
        ((("mlp_layer", "SwiGLUPackd"),), "unknown mlp_layer 'SwiGLUPackd'; did you mean SwiGLUPacked"),
        ((("act_layer", "SiLOO"),), "timm/test_vit cannot be built for 96 pixels"),
        (
            (("registers", 3),),
            r"timm/test_vit cannot be built for 96 pixels \(.*unexpected keyword argument 'registers'",
        ),
    ):
        with pytest.raises(ValueError, match=expected):
            check_size("timm/test_vit", "native", "published", options)
