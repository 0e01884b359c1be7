"""The train and explain stages of given networks and of untrained ones."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.pipeline import compare, compare_methods, explain, faithfulness, features, train
from pcam_agreement.pipeline.params import check_params
from published import publish

# Both stages of one network, and the features of another that is not frozen; then whether torch was imported.
SCRIPT = """
import sys
from argparse import Namespace
from pathlib import Path
from pcam_agreement.pipeline import explain, features, train
folder = Path(sys.argv[1])
checkpoint = folder / "given" / "2.safetensors"
shared = {"params": folder / "params.yaml", "patches": folder / "none", "checkpoint": checkpoint}
names = {"recipe": "given", "training": "2"}
outputs = {"features": folder / "none", "history": folder / "history", "logits": folder / "logits.h5"}
train.main(Namespace(**outputs, **names, **shared))
features.main(Namespace(features=folder / "other.h5", **{**shared, "recipe": "other"}))
explain.main(Namespace(method="lime", heatmaps=folder / "lime.h5", **names, **shared))
print("torch" in sys.modules)
"""


@pytest.fixture
def folder(raw, resnet, tmp_path, monkeypatch) -> Path:
    """Parameters with a given network and a recipe that is trained, of two trainings and an untrained one each."""
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    save_checkpoint(resnet, tmp_path / "somebody.safetensors")
    given = {"architecture": "timm/test_resnet", "epochs": 0, "weights": str(tmp_path / "somebody.safetensors")}
    raw["network"] |= {"given": given, "other": {"architecture": "timm/test_byobnet", "epochs": 1}}
    raw["recipes"], raw["trainings"], raw["methods"] = ["given", "other"], [1, 2, "untrained"], ["saliency", "centre"]
    raw["explain"].update(patches=4, chunk=4)
    YAML().dump(raw, tmp_path / "params.yaml")
    return tmp_path


def run(folder: Path, dataset: Path, recipe: str, training: str, *methods: str) -> None:
    """Train and explain one network, by saliency and centre where nothing else is said."""
    files = {"params": folder / "params.yaml", "patches": dataset, "recipe": recipe, "training": training}
    files["checkpoint"] = folder / "checkpoints" / recipe / f"{training}.safetensors"
    outputs = {"history": folder / "history" / recipe / training, "logits": logits(folder, recipe, training)}
    train.main(Namespace(features=folder / "features" / f"{recipe}.h5", **outputs, **files))
    for method in methods or ("saliency", "centre"):
        heatmaps = folder / "heatmaps" / method / recipe / f"{training}.h5"
        explain.main(Namespace(method=method, heatmaps=heatmaps, **files))


def logits(folder: Path, recipe: str, training: str) -> Path:
    return folder / "logits" / recipe / f"{training}.h5"


def test_the_trainings_that_a_given_network_does_not_have_are_placeholders_written_without_torch(folder):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    names = ("given/2.safetensors", "logits.h5", "lime.h5", "other.h5")
    assert {(folder / name).read_text() for name in names} == {"nothing\n"}
    assert list((folder / "history").iterdir()) == []


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a recipe that is trained"])
def test_a_given_network_is_compared_with_its_untrained_counterpart_and_with_others(folder, dataset, beside):
    raw = YAML(typ="safe").load(folder / "params.yaml")
    raw["recipes"] = ["other", "given"] if beside else ["given"]
    YAML().dump(raw, folder / "params.yaml")
    for recipe in raw["recipes"]:
        for training in ("1", "2", "untrained"):
            run(folder, dataset, recipe, training)
    files = {"params": folder / "params.yaml", "patches": dataset}
    compare.main(Namespace(heatmaps=folder / "heatmaps" / "saliency", agreement=folder / "agreement.h5", **files))
    compare_methods.main(Namespace(heatmaps=folder / "heatmaps", agreement=folder / "between", **files))
    expected = (["other-1", "other-2", "other-untrained"] if beside else []) + ["given-1", "given-untrained"]
    assert [name.decode() for name in read_arrays(folder / "agreement.h5")["networks"]] == expected
    written = {f"{path.parent.name}-{path.stem}" for path in (folder / "between").glob("*/*.h5")}
    assert written == set(expected)
    given, kept = (
        load_file(path) for path in (folder / "somebody.safetensors", folder / "checkpoints/given/1.safetensors")
    )
    assert all(torch.equal(tensor, kept[name]) for name, tensor in given.items())


def test_an_untrained_network_is_calibrated_on_training_patches_whatever_their_labels(folder, dataset, tmp_path):
    run(folder, dataset, "given", "untrained")
    first = (folder / "checkpoints/given/untrained.safetensors").read_bytes()
    assert (load_file(folder / "checkpoints/given/untrained.safetensors")["bn1.running_mean"] != 0).all()
    raw = YAML(typ="safe").load(folder / "params.yaml")
    raw["train"]["label"] = "tumor_patch"  # others are tumour then
    YAML().dump(raw, folder / "params.yaml")
    split = read_split(dataset, "train")
    assert (split.meta["tumor_patch"] != split.labels).any()
    run(folder, dataset, "given", "untrained")
    assert (folder / "checkpoints/given/untrained.safetensors").read_bytes() == first


def test_published_networks_are_evaluated_and_explained_as_they_are_and_swapped_classes_are_warned_of(
    folder, dataset, capsys
):
    """Two outputs of a convolutional network; of a transformer with register tokens, whose tokens do not divide 96."""
    publish(folder / "cnn", "test_resnet")
    publish(folder / "vit", "vit_tiny_patch16_224", patch_size=14, img_size=518, reg_tokens=4, depth=2)
    raw = YAML(typ="safe").load(folder / "params.yaml")
    raw["network"] |= {
        name + swapped: {
            "architecture": f"local-dir:{folder / name}",
            "weights": "default",
            "epochs": 0,
            "tumour_class": int(not swapped),
        }
        for name in ("cnn", "vit")
        for swapped in ("", "_swapped")
    }
    raw["methods"], raw["recipes"] = ["saliency", "grad_cam"], ["cnn", "cnn_swapped", "vit"]
    YAML().dump(raw, folder / "params.yaml")
    check_params(raw)
    for recipe in raw["recipes"]:
        run(folder, dataset, recipe, "1")
    as_it_is, swapped = (read_arrays(logits(folder, recipe, "1"))["test_logits"] for recipe in ("cnn", "cnn_swapped"))
    assert np.abs(as_it_is).min() > 0
    np.testing.assert_allclose(swapped, -as_it_is, rtol=1e-4, atol=1e-5)
    warned = [line for line in capsys.readouterr().err.splitlines() if "its classes may be swapped" in line]
    assert len([line for line in warned if "cnn" in line]) == 1
    run(folder, dataset, "vit", "untrained")
    heatmaps = read_arrays(folder / "heatmaps" / "saliency" / "vit" / "1.h5")
    assert not heatmaps["constant"].any()


def test_a_frozen_recipe_goes_through_all_stages_with_features_computed_once_and_a_checkpoint_of_its_head(
    folder, dataset
):
    publish(folder / "published", "vit_tiny_patch16_224", 0, patch_size=14, img_size=518, reg_tokens=4, depth=2)
    raw = YAML(typ="safe").load(folder / "params.yaml")
    raw["network"]["probe"] = {
        "architecture": f"local-dir:{folder / 'published'}",
        **{"weights": "default", "freeze": True, "pooling": "token_and_mean", "epochs": 2, "lr": 0.01},
        **{"flips": False, "quarter_turns": False, "stain_jitter": 0.0},
    }
    raw["recipes"], raw["methods"] = ["probe"], ["saliency", "generic_attention"]
    raw["faithfulness"].update(patches=2, steps=2, rolls=1)
    YAML().dump(raw, folder / "params.yaml")
    check_params(raw)
    files = {"params": folder / "params.yaml", "patches": dataset, "recipe": "probe"}
    features.main(Namespace(features=folder / "features" / "probe.h5", **files))
    shapes = {name: values.shape for name, values in read_arrays(folder / "features" / "probe.h5").items()}
    assert shapes == dict.fromkeys(("train", "valid", "test"), (33, 2 * 192))
    for training in ("1", "2", "untrained"):
        run(folder, dataset, "probe", training, "saliency", "generic_attention")
        heatmaps = read_arrays(folder / "heatmaps" / "saliency" / "probe" / f"{training}.h5")
        assert not heatmaps["constant"].any()
    checkpoints = folder / "checkpoints" / "probe"
    assert set(load_file(checkpoints / "1.safetensors")) == {"head.1.weight", "head.1.bias"}
    assert "cls_token" in load_file(checkpoints / "untrained.safetensors")
    assert not torch.equal(*(load_file(checkpoints / f"{name}.safetensors")["head.1.weight"] for name in "12"))
    faithfulness.main(
        Namespace(
            checkpoints=folder / "checkpoints",
            heatmaps=folder / "heatmaps" / "saliency",
            faithfulness=folder / "faithfulness.h5",
            **files,
        )
    )
    assert (folder / "faithfulness.h5").stat().st_size > 0
