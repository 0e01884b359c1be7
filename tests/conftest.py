"""What several tests share: a small synthetic data set, patches of it, and small parameters."""

import os
import signal
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.attribution.common.superpixels import superpixels_of_all
from pcam_agreement.attribution.explain import Explainer
from pcam_agreement.core import plugins
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.audit import describe, write_contents
from pcam_agreement.data.pcam import read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.classifier import Classifier, build_classifier, to_float
from pcam_agreement.pipeline.params import Params, check_params

os.environ["HF_HUB_OFFLINE"] = "1"
# A shell that starts the tests in the background has interrupts ignored, and so would what the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).parents[1]
# those of the course project
ARCHITECTURES = (
    *("resnet34", "resnet50", "densenet121", "vit_b_16", "alexnet", "vgg11", "efficientnet_b1", "inception_v3"),
)
METHODS = plugins.available(plugins.METHODS)

# What makes each method cheap.
CHEAP: dict[str, dict] = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"n_steps": 4, "max_steps": 8},
    "occlusion": {"window": 32, "stride": 32},
    "lime": {"samples": 30, "max_samples": 30, "segments": 9},
    "kernel_shap": {"samples": 30, "max_samples": 30, "segments": 9},
}


def small(raw: dict) -> dict:
    """The committed parameters, cut down to what a test can afford."""
    raw["data"]["synthetic"] = {"slides": {"train": 2, "valid": 1, "test": 1}, "patches_per_slide": 17}
    raw["networks"] = raw["tested"] = ["alexnet", "resnet34", "resnet34_untrained"]
    raw["train"].update(epochs=1, batch_size=16)
    raw["explain"].update(patches=6, chunk=4, batch_size=16)
    raw["method"]["integrated_gradients"].update(n_steps=4, max_steps=8)
    raw["method"]["lime"].update(samples=30, max_samples=30, segments=16)
    raw["report"]["panels"] = 2
    return raw


@pytest.fixture
def raw() -> dict:
    """The committed params.yaml as plain dictionaries and lists, to be changed at will."""
    return YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def settings() -> Params:
    """The committed parameters."""
    return check_params(read_params(ROOT / "params.yaml"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as fetch writes it: 33 + 17 + 17 patches, so that batches of 16 leave one over."""
    folder = tmp_path_factory.mktemp("dataset")
    slides = SplitSlides(train=1, valid=1, test=1)
    synthetic.write(folder, DrawnSlides(slides=slides, patches_per_slide=33), seed=0)
    write_contents(folder, describe(folder))
    return folder


@pytest.fixture(scope="session")
def patches(dataset: Path) -> torch.Tensor:
    """Eight test patches, float32 [8, 3, 96, 96] in [0, 1]."""
    return to_float(torch.from_numpy(read_split(dataset, "test").patches[:8].copy()))


@pytest.fixture(scope="session")
def resnet() -> Classifier:
    """A tiny untrained ResNet, ready to be explained."""
    return ready("timm/test_resnet")


def chosen(settings: Params, method: str, **change: object) -> Method:
    """The committed settings of a method with these changed."""
    kind = plugins.load(plugins.METHODS, "method", method).Settings
    return section({"method": settings.method}, f"method.{method}", kind).model_copy(update=change)


def recipe(settings: Params, name: str) -> dict:
    """A network's block, whole, as `networks.recipes` gives it."""
    return settings.network[name].model_dump()


def ready(architecture: str, seed: int = 0, input_size: str = "native") -> Classifier:
    """An untrained classifier in eval mode with frozen parameters, as `load_classifier` gives it."""
    torch.manual_seed(seed)
    network = build_classifier(architecture, "none", input_size).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # nearly twice as fast


def attribute(method: str, score, patches, seeds, settings, batch: Batch):
    """A method's attribution and diagnostics."""
    options = {}
    if hasattr(settings, "segments"):
        pixels = patches.float().permute(0, 2, 3, 1).cpu().numpy()
        options["superpixels"] = superpixels_of_all(pixels, settings.superpixels, settings.segments)
    module = plugins.load(plugins.METHODS, "method", method)
    return module.attribute(score, patches, seeds, settings, batch, **options)


def explain_patches(network, patches, seeds, method: str, settings, explanation, batch: Batch):
    """A method's heatmaps with all that goes into their file."""
    module = plugins.load(plugins.METHODS, "method", method)
    return Explainer(network, module, settings, explanation, batch).heatmaps(patches, seeds)
