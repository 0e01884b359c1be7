"""Mistakes in params.yaml: one sentence, with the nearest name."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from pcam_agreement.core.settings import read_params
from pcam_agreement.networks.hub import is_published
from pcam_agreement.networks.timm_models import build_backbone
from pcam_agreement.pipeline import profile
from pcam_agreement.pipeline.params import check_params
from published import FOUNDATION, publish

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("train", "learning_rate"), 0.1, "unknown setting"),
        (("train", "epoch"), 3, "unknown setting train.epoch; did you mean epochs?"),
        (("network", "alexnet", "architecure"), "alexnet", "did you mean architecture?"),
        (
            ("network", "test_resnet", "architecture"),
            "alexnett",
            "unknown architecture 'alexnett'; did you mean alexnet?",
        ),
        (
            ("network", "test_resnet", "architecture"),
            "timm/test_resnett",
            "timm has no model 'test_resnett'; did you mean",
        ),
        (
            ("network", "test_resnet", "architecture"),
            "maxvit_t",
            "test_resnet.architecture: maxvit_t cannot take patches of 96",
        ),
        (("recipes",), ["resnet43"], "unknown recipe 'resnet43' in recipes; did you mean resnet34?"),
        (("recipes",), [], "recipes is empty"),
        (("recipes",), ["test_resnet", "test_resnet"], "recipes names test_resnet more than once"),
        (("trainings",), [], "trainings is empty"),
        (("trainings",), [1, 1], "trainings names 1 more than once"),
        (("trainings",), ["untrained", 1], "trainings begins with untrained; begin with a seed"),
        (
            ("trainings",),
            [1, "twin"],
            "trainings: expected a seed (1, 2, …) or untrained, untrained_2, …, found 'twin'",
        ),
        (
            ("networks",),
            ["alexnet"],
            "networks is now `recipes`, blocks of `network`, and `trainings`, their seeds and",
        ),
        (
            ("tested",),
            ["alexnet"],
            "tested is gone: faithfulness is of each recipe's first training and first untrained",
        ),
        (("seed",), 0, "seed is now `seeds`, one for each thing that is random; CHANGELOG.md says how an old file"),
        (("network", "alexnet", "seed"), 1, "network.alexnet.seed is gone: `trainings` are the seeds of every block"),
        (("agreement", "curve"), [0.1], "agreement.curve is now agreement.fractions; CHANGELOG.md says how"),
        (("agreement", "sigmas"), [2, 1], "agreement.sigmas: expected numbers in increasing order, each once, found"),
        (("methods",), ["saliancy"], "unknown method 'saliancy' in methods; did you mean saliency?"),
        (("data", "source"), "sinthetic", "unknown data source 'sinthetic'; did you mean synthetic?"),
        (("device",), "gpu", "device: input should be 'auto', 'cpu' or 'cuda'"),
        (("train", "lr"), "fast", "lr"),
        (("agreement", "top_fraction"), 1.5, "agreement.top_fraction: input should be less than 1, found 1.5"),
        (("faithfulness", "steps"), 1, "faithfulness.steps: input should be greater than or equal to 2, found 1"),
        (("recipes",), None, "recipes: input should be a valid list, found None"),
        (("trainings",), None, "trainings: input should be a valid list, found None"),
        (("network",), None, "network: input should be a valid dictionary, found None"),
        (("network", "alexnet"), None, "network.alexnet: expected a mapping of settings, found None"),
        (("train", "lr"), float("inf"), "train.lr: input should be a finite number, found inf"),
        (("train", "weight_decay"), float("nan"), "train.weight_decay: input should be"),
        (("method", "centre", "sigma"), float("inf"), "method.centre.sigma: input should be a finite number"),
        (("method", "lime", "interactions"), True, "method.lime: expected sampling: orthogonal with interactions"),
        (("method", "limes"), {}, "unknown setting method.limes; did you mean lime?"),
        (("data", "synthetc"), {}, "unknown setting data.synthetc; did you mean synthetic?"),
        (("threads",), 0, "threads: input should be greater than or equal to 1, found 0"),
        (("faithfulness", "fill"), "blured", "found 'blured'; did you mean blurred?"),
        (("faithfulness", "roll"), 3, "unknown setting faithfulness.roll; did you mean rolls?"),
        (("method", "lime", "samples"), 0, "method.lime.samples"),
        (
            ("method", "lime", "max_samples"),
            10,
            "method.lime: expected max_samples of at least samples (72), found 10.",
        ),
        (("seeds", "data"), -1, "seeds.data"),
        (("seeds", "dta"), 1, "unknown setting seeds.dta; did you mean data?"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_helps(raw, path, value, sentence):
    block = raw
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    with pytest.raises(ValueError) as error:
        check_params(raw)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_method_without_a_block_and_a_setting_with_a_typo_are_named(raw):
    del raw["method"]["kernel_shap"]
    raw["methods"].append("kernel_shap")
    with pytest.raises(ValueError, match=r"'kernel_shap' in methods has a file but no block; add method\.kernel_shap"):
        check_params(raw)
    raw["methods"].pop()
    raw["method"]["lime"]["segmnts"] = raw["method"]["lime"].pop("segments")
    with pytest.raises(ValueError, match=r"unknown setting method\.lime\.segmnts; did you mean segments\?"):
        check_params(raw)


def test_grad_cam_of_a_map_of_one_pixel_is_refused_before_the_run(raw):
    raw["methods"].append("grad_cam")
    raw["recipes"].append("inception_v3")
    with pytest.raises(ValueError, match=r"grad_cam cannot explain inception_v3: the last map .* is one pixel"):
        check_params(raw)
    raw["network"]["inception_v3"]["input"] = "architecture"
    check_params(raw)


def test_a_missing_setting_is_named(raw):
    del raw["agreement"]["top_fraction"]
    with pytest.raises(ValueError, match=r"agreement.top_fraction is missing"):
        check_params(raw)


def test_a_recipe_takes_the_shared_settings_and_lays_its_own_over_them(raw):
    raw["network"]["alexnet"]["lr"] = 0.5
    found = check_params(raw).network
    assert found["alexnet"].lr == 0.5
    assert found["resnet34"].lr == raw["train"]["lr"]


def test_a_small_learning_rate_written_by_dvc_is_a_number(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("lr: 1.0e-2", "lr: 1e-05")
    (tmp_path / "params.yaml").write_text(text)
    assert read_params(tmp_path / "params.yaml")["train"]["lr"] == 1e-5


def test_files_that_are_not_there_or_not_yaml_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="is missing; run from the top"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(ValueError, match="is not valid YAML"):
        read_params(tmp_path / "params.yaml")


def in_the_hubs_cache(folder: Path, architecture: str, config: dict) -> None:
    """Lay out the cache of the hub as if the configuration had been downloaded."""
    repository = folder / f"models--{architecture.removeprefix('hf-hub:').replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(config))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_valid_and_becomes_flags_without_blanks(path, raw, capsys, tmp_path, monkeypatch):
    overlay = profile.YAML(typ="safe", pure=True).load(path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, block in overlay.get("network", {}).items():
        if is_published(block.get("architecture", "")):
            config = FOUNDATION.get(block["architecture"], {"architecture": name, "num_classes": 2})
            in_the_hubs_cache(tmp_path, block["architecture"], config)
    check_params(profile.laid_over(raw, overlay))
    for flag in profile.flags(overlay):
        assert flag.startswith("++")
        assert not set(" \t\n") & set(flag)


@pytest.mark.parametrize("text", ["a: [1,\nb: 2", "methods: [limes]"])
def test_a_wrong_profile_becomes_a_flag_that_dvc_refuses(text, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.yaml"):
        profile.main(Namespace(profile=tmp_path / "wrong.yaml", params=ROOT / "params.yaml"))
    said = capsys.readouterr().out.split()
    found = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", *said], cwd=tmp_path, capture_output=True)
    assert b"unrecognized arguments: --profile-is-wrong" in found.stderr


@pytest.mark.parametrize("method", ["attention_rollout", "deep_lift", "guided_backprop"])
def test_a_method_that_cannot_explain_a_network_is_refused_before_the_run(raw, method):
    raw["methods"].append(method)
    raw["recipes"] = ["test_efficientnet"]
    with pytest.raises(ValueError, match=rf"{method} cannot explain test_efficientnet: .*timm/test_efficientnet"):
        check_params(raw)


@pytest.mark.parametrize(
    ("method", "recipe"), [("lrp", "test_resnet"), ("attn_lrp", "vit_b_16"), ("deep_lift", "resnet34")]
)
def test_a_method_that_can_explain_a_network_is_accepted(raw, method, recipe):
    raw["methods"].append(method)
    raw["recipes"] = [recipe]
    check_params(raw)


def test_one_recipe_is_enough_and_one_network_is_not(raw):
    raw["recipes"], raw["trainings"] = ["test_resnet"], [1, 2]
    check_params(raw)
    raw["trainings"] = [1]
    with pytest.raises(ValueError, match="give only test_resnet-1; agreement needs at least two networks"):
        check_params(raw)


def test_two_recipes_that_are_the_same_are_refused(raw):
    raw["network"]["again"] = dict(raw["network"]["test_byobnet"])
    check_params(raw)
    raw["recipes"].append("again")
    with pytest.raises(
        ValueError, match=r"network.test_byobnet and network.again have the same settings .* leave one out"
    ):
        check_params(raw)


def test_a_precision_that_dvc_wrote_as_a_number_is_known(raw):
    raw["train"]["precision"], raw["explain"]["precision"] = 16, 32
    found = check_params(raw)
    assert (found.network["alexnet"].precision, found.explain.precision) == ("16", "32")


def test_a_published_network_that_is_taken_as_it_is_has_one_output_or_two(raw, tmp_path):
    publish(tmp_path, "test_resnet", classes=9)
    raw["network"]["test_resnet"].update(architecture=f"local-dir:{tmp_path}", epochs=0, weights="default")
    with pytest.raises(ValueError, match=r"network\.test_resnet: the head of .* has 9 outputs, expected one or two"):
        check_params(raw)
    raw["network"]["test_resnet"]["epochs"] = 1  # with a head of its own
    check_params(raw)


@pytest.mark.parametrize("weights", ["none", "default"])
def test_a_given_network_whose_weights_are_no_path_is_refused(raw, weights):
    raw["network"]["test_resnet"].update(epochs=0, weights=weights)
    with pytest.raises(
        ValueError, match=rf"test_resnet has epochs 0, .* but weights {weights}; .* untrained to trainings"
    ):
        check_params(raw)
    raw["network"]["test_resnet"]["weights"] = "somebody.safetensors"
    check_params(raw)


def test_the_foundation_models_of_the_profile_have_the_parameters_that_their_authors_state(monkeypatch, tmp_path):
    """In millions, without heads; built without values."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    stated = {"uni": 303, "uni2_h": 681, "virchow2": 631, "h_optimus_0": 1135, "gigapath": 1135, "phikon": 86}
    network = profile.YAML(typ="safe", pure=True).load(ROOT / "profiles" / "foundation.yaml")["network"]
    for name, millions in stated.items():
        block = network[name]
        in_the_hubs_cache(tmp_path, block["architecture"], FOUNDATION[block["architecture"]])
        with torch.device("meta"):
            pooling, options = block.get("pooling", "published"), block.get("options", {})
            built = build_backbone(block["architecture"], False, "architecture", None, pooling, options.items())
        count = sum(parameter.numel() for parameter in built["backbone"].parameters()) / 1e6
        assert count == pytest.approx(millions, abs=1.5), name
        assert built["size"] == 224
