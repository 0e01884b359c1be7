"""What several tests share: a small synthetic data set, patches of it, and small parameters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pcam_agreement import networks, params, pcam, synthetic

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parents[1]

# What makes each method cheap.
CHEAP: dict[str, dict] = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"nodes": 4, "max_nodes": 8},
    "occlusion": {"window": 32, "stride": 32},
    "lime": {"samples": 30, "max_samples": 30, "segments": 9},
    "kernel_shap": {"samples": 30, "max_samples": 30, "segments": 9},
}


def small(raw: dict) -> dict:
    """The committed parameters, cut down to what a test can afford."""
    raw["data"]["synthetic"] = {"slides": {"train": 2, "valid": 1, "test": 1}, "patches_per_slide": 17}
    raw["networks"] = ["alexnet", "resnet34", "resnet34_untrained"]
    raw["train"].update(epochs=1, batch_size=16)
    raw["explain"].update(patches=6, chunk=4, batch_size=16)
    raw["method"]["integrated_gradients"].update(nodes=4, max_nodes=8)
    raw["method"]["lime"].update(samples=30, max_samples=30, segments=16)
    raw["report"]["panels"] = 2
    return raw


@pytest.fixture
def raw() -> dict:
    """The committed params.yaml as plain dictionaries and lists, to be changed at will."""
    return YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def settings() -> params.Params:
    """The committed parameters."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as fetch writes it: 33 + 17 + 17 patches, so that batches of 16 leave one over."""
    folder = tmp_path_factory.mktemp("dataset")
    slides = params.SplitSlides(train=1, valid=1, test=1)
    synthetic.generate(folder, params.Synthetic(slides=slides, patches_per_slide=33), seed=0)
    pcam.write_contents(folder, pcam.describe(folder))
    return folder


@pytest.fixture(scope="session")
def patches(dataset: Path) -> torch.Tensor:
    """Eight test patches, float32 [8, 3, 96, 96] in [0, 1]."""
    return networks.to_float(torch.from_numpy(pcam.read(dataset, "test").patches[:8].copy()))


@pytest.fixture(scope="session")
def resnet() -> networks.Classifier:
    """A small ResNet as drawn, ready to be explained."""
    return ready("timm/resnet10t")


def chosen(settings: params.Params, method: str, **change: object) -> params.Method:
    """The committed settings of a method with these changed."""
    return getattr(settings.method, method).model_copy(update=change)


def ready(architecture: str, seed: int = 0, input_size: str = "native") -> networks.Classifier:
    """An untrained classifier in eval mode with frozen parameters, as `networks.load` gives it."""
    torch.manual_seed(seed)
    return networks.build(architecture, "none", input_size).eval().requires_grad_(False)
