"""Features of frozen networks: those of the head's input, computed once, and what is trained on them."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pcam_agreement.core.files import read_arrays, write_arrays
from pcam_agreement.data.pcam import META_COLUMNS, read_split, write_split
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.classifier import Classifier, build_classifier
from pcam_agreement.networks.logits import network_logits, to_device
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline.params import check_params
from pcam_agreement.report import metrics
from pcam_agreement.report.history import read_history
from pcam_agreement.training.features import Head, _features, read_features, write_features
from pcam_agreement.training.fit import Files, train
from pcam_agreement.training.settings import Recipe
from repository import ROOT

CPU = torch.device("cpu")
SHARED = ROOT.parent / "shared"
NO_AUGMENTATION = {"flips": False, "quarter_turns": False, "stain_jitter": 0.0}


@pytest.fixture
def recipe(raw, tmp_path) -> Recipe:
    """A frozen network with weights from a file, whose head is trained for two epochs."""
    torch.manual_seed(3)
    state = build_classifier("timm/test_vit", "none", "native").backbone.state_dict()
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    save_file(backbone, tmp_path / "w1.safetensors")
    block = {"architecture": "timm/test_vit", "weights": str(tmp_path / "w1.safetensors"), "freeze": True, "lr": 0.01}
    raw["network"]["tiny"] = {**block, **NO_AUGMENTATION}
    raw["recipes"] = ["tiny"]
    return check_params(raw).network["tiny"]


def fit(recipe: Recipe, dataset: Path, folder: Path) -> Files:
    """The files of a training of this recipe, whose features are computed first where they can be."""
    (folder / "work").mkdir(parents=True)
    names = ("tiny.h5", "a.safetensors", "history", "logits.h5", "work")
    files = Files(dataset, *(folder / name for name in names))
    if recipe.features_once:
        write_features(recipe, dataset, "cpu", files.features)
    train(Network("tiny", "1", recipe.architecture), recipe, 0, "cpu", files)
    return files


def built(recipe: Recipe) -> Classifier:
    torch.manual_seed(Network("tiny", "1", recipe.architecture).seed % 2**32)
    return build_classifier(recipe.architecture, recipe.weights.replace("{training}", "1"), recipe.input)


def test_features_are_computed_once_where_all_trainings_see_the_same_patches_by_the_same_backbone(recipe):
    assert recipe.features_once
    for change in (
        {"freeze": False},
        {"unfreeze": ["norm"]},
        {"flips": True},
        {"quarter_turns": True},
        {"stain_jitter": 0.1},
        {"weights": "none"},
        {"weights": "models/{training}.safetensors"},
    ):
        assert not recipe.model_copy(update=change).features_once, change


def test_features_computed_once_give_the_head_that_training_through_the_frozen_network_gives(recipe, dataset, tmp_path):
    recipe = recipe.model_copy(update={"precision": "32", "optimiser": "sgd", "fraction": 0.9})
    # the same file, but each training might have its own: the patches go through the network at every step
    through = recipe.model_copy(update={"weights": str(tmp_path / "w{training}.safetensors")})
    assert not through.features_once
    once, step_by_step = fit(recipe, dataset, tmp_path / "once"), fit(through, dataset, tmp_path / "through")
    head, other = load_file(once.checkpoint), load_file(step_by_step.checkpoint)
    assert set(head) == set(other) == {"head.weight", "head.bias"}
    start = built(recipe).backbone.state_dict()
    for name in head:
        moved = (head[name] - start[name]).abs().mean()
        assert moved > 1e-4
        assert (head[name] - other[name]).abs().mean() < 1e-3 * moved, name
    np.testing.assert_allclose(read_history(once.history), read_history(step_by_step.history), rtol=1e-4)
    logits = read_arrays(once.logits)
    for name, values in read_arrays(step_by_step.logits).items():
        np.testing.assert_allclose(logits[name], values, rtol=1e-3, atol=1e-4)
    split = read_split(dataset, "test")  # and the checkpoint is a network as any other
    again = network_logits(load_classifier(once.checkpoint, CPU), split.patches, CPU)
    np.testing.assert_allclose(again, logits["test_logits"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["timm/test_vit", "timm/test_resnet", "timm/mobilenetv3_small_050"])
def test_features_are_what_timm_calls_the_input_of_its_classifier(architecture, recipe, dataset):
    network = build_classifier(architecture, "none", "native").eval()
    patches = to_device(read_split(dataset, "test").patches[:3], CPU)
    backbone = network.backbone
    with torch.no_grad():
        inputs = (patches - network.mean) / network.std
        expected = backbone.forward_head(backbone.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(_features(network, patches, recipe), expected)


@pytest.mark.parametrize("architecture", ["alexnet", "squeezenet1_1", "densenet121"])
def test_the_head_gives_the_networks_logits_from_features_also_where_it_is_a_convolution(architecture, recipe, dataset):
    network = build_classifier(architecture, "none", "native").eval()
    patches = to_device(read_split(dataset, "test").patches[:3], CPU)
    with torch.no_grad():
        logits = network(patches)
        again = Head(network)(_features(network, patches, recipe))
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-6)


def test_a_network_with_more_behind_its_head_is_refused(recipe, patches):
    network = build_classifier("timm/test_resnet", "none", "native").eval()
    network.head = "layer3"
    with pytest.raises(ValueError, match="its features cannot be kept; set freeze to false"):
        _features(network, patches, recipe)


def test_features_of_weights_that_were_replaced_meanwhile_are_refused(recipe, dataset, tmp_path):
    write_features(recipe, dataset, "cpu", tmp_path / "tiny.h5")
    features = read_features(tmp_path / "tiny.h5", built(recipe))
    assert {name: values.shape for name, values in features.items()} == {
        name: (33, built(recipe).head_layer().in_features) for name in ("train", "valid", "test")
    }
    state = load_file(tmp_path / "w1.safetensors")
    save_file({**state, "cls_token": state["cls_token"] + 1}, tmp_path / "w1.safetensors")
    with pytest.raises(ValueError, match=r"features of other weights .* dvc repro --force --single-item features@tiny"):
        read_features(tmp_path / "tiny.h5", built(recipe))


@pytest.mark.parametrize("content", ["empty", "foreign", "another_file", "cut", "placeholder"])
def test_a_file_that_holds_no_features_or_a_part_of_them_is_one_sentence(content, recipe, dataset, tmp_path):
    path = tmp_path / "tiny.h5"
    write_features(recipe, dataset, "cpu", path)
    whole = path.read_bytes()
    if content == "another_file":
        write_arrays(path, {"train": np.zeros(3)})
    else:
        texts = {"empty": b"", "foreign": b"x" * 5000, "cut": whole[: len(whole) // 2], "placeholder": b"nothing\n"}
        path.write_bytes(texts[content])
    with pytest.raises(
        ValueError, match=r"tiny\.h5 holds no features, or a part of them \(.*\); run dvc repro --force"
    ):
        read_features(path, built(recipe))


@pytest.fixture(scope="module")
def kaggle_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,600 patches of the shared part of PatchCamelyon in splits: 900 and 200 to fit, 500 to test."""
    folder = tmp_path_factory.mktemp("kaggle")
    with open(SHARED / "pcam-kaggle" / "train_labels.csv") as table:
        rows = sorted((row["id"], int(row["label"])) for row in csv.DictReader(table))
    order = np.random.default_rng(0).permutation(len(rows))
    for name, start, stop in (("train", 0, 900), ("valid", 900, 1100), ("test", 1100, 1600)):
        chosen = [rows[number] for number in order[start:stop]]
        images = (Image.open(SHARED / "pcam-kaggle" / "train" / f"{name}.webp") for name, _ in chosen)
        labels = np.array([label for _, label in chosen], np.uint8)
        meta = pd.DataFrame({column: 0 for column in META_COLUMNS}, index=range(len(labels)))
        meta = meta.assign(tumor_patch=labels == 1, center_tumor_patch=labels == 1)
        write_split(folder, name, (np.asarray(image)[None] for image in images), labels, meta)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "pcam-kaggle").exists(), reason="neither patches nor pretrained networks are here")
@pytest.mark.parametrize(
    ("architecture", "weights", "wanted"),
    [
        ("timm/tf_efficientnet_lite0", "tf_efficientnet_lite0.imagenet.safetensors", 0.88),
        ("timm/vit_small_patch14_dinov2", "vit_small_patch14_dinov2.fp16.safetensors", 0.87),
    ],
)
def test_heads_of_frozen_pretrained_networks_tell_tumour_on_real_patches(
    architecture, weights, wanted, kaggle_patches, raw, tmp_path
):
    block = {"architecture": architecture, "weights": str(SHARED / "weights" / weights), "freeze": True}
    raw["network"]["tiny"] = {**block, **NO_AUGMENTATION, "epochs": 40, "batch_size": 64, "lr": 1e-2}
    raw["recipes"] = ["tiny"]
    files = fit(check_params(raw).network["tiny"], kaggle_patches, tmp_path / "run")
    logits = read_arrays(files.logits)
    assert metrics.auroc(logits["test_logits"], logits["test_labels"]) >= wanted
