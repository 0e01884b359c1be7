"""Mistake 14: each setting of params.yaml changes the output that it is about, but for those that must not.

A setting that is added has to be added to one of the tables here.
"""

from argparse import Namespace
from collections.abc import Callable

import numpy as np
import pytest
from ruamel.yaml import YAML

from conftest import CHEAP, METHODS, chosen, explain_patches, ready
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.core.files import read_arrays
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline import compare, explain, faithfulness
from pcam_agreement.pipeline.params import check_params
from pcam_agreement.training.fit import Files, train

SURROGATE = {
    **{"superpixels": "grid", "segments": 16, "samples": 20, "max_samples": 90, "tolerance": 0.99},
    "reduce": "minmax_of_sum",
}
# Whatever reduces these, their map is the same: one channel without negative values.
NON_NEGATIVE = ("grad_cam", "grad_cam_plus_plus", "attention_rollout", "generic_attention")
METHOD = {
    "saliency": {"reduce": "absolute_of_sum"},
    "input_x_gradient": {"reduce": "max_of_absolute"},
    "smoothgrad": {"reduce": "absolute_of_sum", "samples": 5, "sigma": 0.3},
    "integrated_gradients": {
        **{"reduce": "max_of_absolute", "baseline": "black", "rule": "right"},
        **{"n_steps": 3, "max_steps": 16, "tolerance": 0.9},
    },
    **{name: {} for name in NON_NEGATIVE},
    "hires_cam": {"reduce": "absolute_of_sum"},
    "lrp": {"reduce": "max_of_absolute"},
    "attn_lrp": {"reduce": "max_of_absolute", "gamma_convolution": 0.0, "gamma_linear": 1.0},
    "occlusion": {"reduce": "minmax_of_sum", "window": 20, "stride": 16},
    "rise": {"reduce": "absolute_of_sum", "masks": 30, "cells": 5, "probability": 0.7, "baseline": "white"},
    "lime": {
        **SURROGATE,
        **{"sampling": "orthogonal", "interactions": True, "kernel": "similarity", "kernel_width": 1.0, "ridge": 100.0},
    },
    "kernel_shap": SURROGATE,
    "guided_backprop": {"reduce": "absolute_of_sum"},
    "deconvolution": {"reduce": "absolute_of_sum"},
    "deep_lift": {"reduce": "max_of_absolute", "baseline": "black"},
    "deep_lift_shap": {"reduce": "max_of_absolute", "baselines": ["white", "black"]},
    "gradient_shap": {"reduce": "max_of_absolute", "baselines": ["black"], "samples": 5, "sigma": 0.3},
    "feature_ablation": {"reduce": "minmax_of_sum", "superpixels": "grid", "segments": 16},
    "shapley_value_sampling": {
        **{"reduce": "minmax_of_sum", "superpixels": "grid", "segments": 16, "permutations": 5},
    },
    "random": {"reduce": "minmax_of_sum"},
    "centre": {"reduce": "minmax_of_sum", "sigma": 4.0},
}
# What has to hold before a setting can have an effect.
BEFORE: dict[str, dict] = {
    "max_samples": {"tolerance": 1e-3},
    "max_steps": {"tolerance": 1e-3},
    "tolerance": {"tolerance": 1e-3, "segments": 16, "max_samples": 90, "max_steps": 16},
    "interactions": {"sampling": "orthogonal"},
}
EXPLAIN = {
    **{"patches": 5, "sample": "first", "repeat": 1, "target": "predicted", "output": "probability"},
    **{"precision": "bf16", "storage": "uint8"},
}
AGREEMENT = {
    **{"top_fraction": 0.3, "sigma": 1.0, "ties": "all", "fractions": [0.2, 0.4], "sigmas": [0, 3], "ssim_patches": 3},
    "centre_sigma": 4.0,
}
FAITHFULNESS = {"patches": 3, "steps": 4, "fill": "black", "rolls": 3}
TRAIN = {
    **{"label": "tumor_patch", "freeze": True, "input": "architecture", "optimiser": "sgd", "lr": 1e-2},
    **{"weight_decay": 0.5, "schedule": "constant", "epochs": 2, "batch_size": 16, "precision": "bf16"},
    **{"fraction": 0.6, "flips": False, "quarter_turns": False, "stain_jitter": 0.3},
    **{"architecture": "timm/test_vit", "normalisation": "none"},
}
# The tests that see these: of networks, of training, of explaining, of the bootstrap.
ELSEWHERE = {
    "weights",
    "unfreeze",
    "pooling",
    "options",
    "tumour_class",
    "patience",
    "compile",
    "accumulate",
    "devices",
    "nodes",
    "bootstrap",
}


@pytest.fixture
def folder(raw, dataset, tmp_path, monkeypatch):
    """Parameters of one method, and a checkpoint that calls every patch normal."""
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    raw["explain"].update(patches=6, repeat=2, chunk=4, batch_size=16)
    raw["method"]["lime"].update(samples=30, max_samples=30, segments=9, reduce="positive_of_sum")
    raw["network"]["tiny"] = {"architecture": "timm/test_resnet"}
    raw["recipes"], raw["trainings"] = ["tiny"], [1, 2]
    network = ready("timm/test_resnet")
    network.backbone.get_submodule(network.head).bias.fill_(-3)
    save_checkpoint(network, tmp_path / "checkpoints" / "tiny" / "1.safetensors")
    return tmp_path


def output(stage, folder, raw, dataset, block: str, change: dict, written: str, **paths: str) -> dict[str, np.ndarray]:
    """The arrays that a stage writes, to the path of this name, with one block of the parameters changed."""
    YAML().dump({**raw, block: {**raw[block], **change}}, folder / "params.yaml")
    files = {name: folder / path for name, path in paths.items()}
    given = Namespace(
        params=folder / "params.yaml", patches=dataset, method="lime", recipe="tiny", training="1", **files
    )
    stage.main(given)
    return read_arrays(files[written])


def same(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> bool:
    return before.keys() == after.keys() and all(
        np.array_equal(before[name], after[name], equal_nan=before[name].dtype.kind == "f") for name in before
    )


def check(run: Callable[[dict], dict[str, np.ndarray]], changes: dict) -> None:
    before = run({})
    for name, value in changes.items():
        assert not same(before, run({name: value})), f"{name} has no effect"


@pytest.mark.parametrize(("method", "name"), [(method, name) for method in METHODS for name in METHOD[method]])
def test_14_no_setting_of_a_method_is_without_effect(method, name, patches, settings, resnet):
    base = chosen(settings, method, **CHEAP.get(method, {}))
    base = base.model_copy(update={key: value for key, value in BEFORE.get(name, {}).items() if hasattr(base, key)})
    before, after = (
        explain_patches(resnet, patches[:2], [0, 1], method, block, settings.explain, Batch(16))["heatmaps"]
        for block in (base, base.model_copy(update={name: METHOD[method][name]}))
    )
    assert (before != after).any()


def test_14_every_setting_is_in_a_table(settings):
    for method in METHODS:
        known = {*METHOD[method], *({"reduce"} if method in NON_NEGATIVE else ())}
        assert set(type(chosen(settings, method)).model_fields) == known, method
    assert set(Explanation.model_fields) - ELSEWHERE == {*EXPLAIN, "batch_size", "chunk"}
    assert set(Agreement.model_fields) - ELSEWHERE == set(AGREEMENT)
    assert set(Faithfulness.model_fields) == set(FAITHFULNESS)
    assert set(type(settings.network["alexnet"]).model_fields) - ELSEWHERE == {
        *TRAIN,
        "placement",
        "checkpoint_minutes",
    }


def test_14_no_setting_of_explain_is_without_effect_but_those_that_divide_the_work(raw, dataset, folder):
    paths = {"checkpoint": "checkpoints/tiny/1.safetensors", "heatmaps": "lime.h5"}

    def run(change: dict) -> dict[str, np.ndarray]:
        return output(explain, folder, raw, dataset, "explain", change, "heatmaps", **paths)

    check(run, EXPLAIN)
    before = run({})
    for name, value in {"chunk": 6, "batch_size": 5}.items():
        after = run({name: value})
        assert before["index"].tolist() == after["index"].tolist()
        for array in ("heatmaps", "repeated"):
            np.testing.assert_allclose(
                before[array].astype(float), after[array].astype(float), rtol=2e-3, atol=2e-3, err_msg=name
            )


def test_14_no_setting_of_faithfulness_or_agreement_is_without_effect(raw, dataset, folder):
    heatmaps = {"checkpoint": "checkpoints/tiny/1.safetensors", "heatmaps": "lime/tiny/1.h5"}
    output(explain, folder, raw, dataset, "explain", {}, "heatmaps", **heatmaps)

    def curves(change: dict) -> dict[str, np.ndarray]:
        paths = {"checkpoints": "checkpoints", "heatmaps": "lime", "faithfulness": "f.h5"}
        return output(faithfulness, folder, raw, dataset, "faithfulness", change, "faithfulness", **paths)

    def agreement(change: dict) -> dict[str, np.ndarray]:
        paths = {"heatmaps": "lime", "agreement": "a.h5"}
        return output(compare, folder, raw, dataset, "agreement", change, "agreement", **paths)

    raw["faithfulness"]["patches"] = 4
    check(curves, FAITHFULNESS)
    (folder / "lime" / "tiny" / "2.h5").write_bytes((folder / "lime" / "tiny" / "1.h5").read_bytes())
    check(agreement, AGREEMENT)


@pytest.mark.slow
def test_14_no_setting_of_train_is_without_effect_but_those_that_must_not_have_one(raw, dataset, tmp_path):
    raw["network"]["tiny"] = {"architecture": "timm/test_efficientnet", "epochs": 1, "fraction": 1.0, "batch_size": 8}
    raw["train"]["lr"], raw["recipes"] = 1e-3, ["tiny"]
    tiny = check_params(raw).network["tiny"]

    def checkpoint(name: str, **change: object) -> bytes:
        folder = tmp_path / name
        (folder / "work").mkdir(parents=True)
        files = Files(
            dataset, *(folder / out for out in ("features.h5", "a.safetensors", "history", "logits.h5", "work"))
        )
        train(Network("tiny", "1", tiny.architecture), tiny.model_copy(update=change), 0, "cpu", files)
        return (folder / "a.safetensors").read_bytes()

    before = checkpoint("before")
    for name, value in TRAIN.items():
        assert checkpoint(name, **{name: value}) != before, name
    for name, value in {"placement": "memmap", "checkpoint_minutes": 0}.items():
        assert checkpoint(name, **{name: value}) == before, name
