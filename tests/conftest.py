"""What several tests share: a small synthetic data set, patches of it, and small parameters."""

import ctypes
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
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
from pcam_agreement.networks.classifier import Classifier, blank_classifier, build_classifier, to_float
from pcam_agreement.pipeline.params import Params, check_params
from repository import Repository, write_images

os.environ["HF_HUB_OFFLINE"] = "1"
# A shell that starts the tests in the background has interrupts ignored, and so would what the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).parents[1]
# those of the course project
ARCHITECTURES = (
    *("resnet34", "resnet50", "densenet121", "vit_b_16", "alexnet", "vgg11", "efficientnet_b1", "inception_v3"),
)
LARGE = ("alexnet", "vgg11", "vit_b_16")  # those that take seconds to be given random weights
DRAWN = tempfile.TemporaryDirectory()
METHODS = plugins.available(plugins.METHODS)
OF_TRANSFORMERS = ("attention_rollout", "generic_attention")
CAMS = ("grad_cam", "grad_cam_plus_plus", "hires_cam")
# Files of tests that take longest, to be begun first where files run side by side. The first one makes the pipeline
# that others copy: until then, there is other work.
LONGEST = (
    *("pipeline/test_pipeline_faults.py", "data/sources/test_planted.py", "attribution/methods/test_all_methods.py"),
    *("pipeline/test_pipeline_reruns.py", "pipeline/test_pipeline.py", "training/test_fit.py"),
    *("training/test_features.py", "data/sources/test_synthetic.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, else in the order in which pytest finds them."""
    rank = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


# What makes each method cheap.
CHEAP: dict[str, dict] = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"n_steps": 4, "max_steps": 8},
    "occlusion": {"window": 32, "stride": 32},
    "rise": {"masks": 20, "cells": 4},
    "lime": {"samples": 30, "max_samples": 30, "segments": 9},
    "kernel_shap": {"samples": 30, "max_samples": 30, "segments": 9},
    "gradient_shap": {"samples": 3},
    "feature_ablation": {"segments": 9},
    "shapley_value_sampling": {"segments": 9, "permutations": 2},
}


@pytest.fixture(scope="module", autouse=True)
def _freed_memory():
    """What a file of tests has freed goes back to the system: `choose_device` has the process keep it."""
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc's alone
        trim(0)


@pytest.fixture
def raw() -> dict:
    """The committed params.yaml as plain dictionaries and lists, to be changed at will."""
    return YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def settings() -> Params:
    """The committed parameters."""
    return check_params(read_params(ROOT / "params.yaml"))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of a test run makes, and the others find."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    folder, made = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as fetch writes it: 33 + 17 + 17 patches, so that batches of 16 leave one over."""

    def make(folder: Path) -> None:
        slides = SplitSlides(train=1, valid=1, test=1)
        synthetic.write(folder, DrawnSlides(slides=slides, patches_per_slide=33), seed=0)
        write_contents(folder, describe(folder))

    return made_once(tmp_path_factory, "dataset", make)


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose pipeline was run once, and committed: a copy for each file of tests."""

    def make(folder: Path) -> None:
        (folder / "repository").mkdir()
        repository = Repository(folder / "repository", write_images(dataset, folder / "images"))
        repository.repro_here()
        repository.commit()

    built = Repository.at(made_once(tmp_path_factory, "finished", make) / "repository")
    return built.copy(tmp_path_factory.mktemp("finished") / "repository")


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
    """A recipe's block, whole, as `networks.recipes` gives it."""
    return settings.network[name].model_dump()


def ready(architecture: str, seed: int = 0, input_size: str = "native") -> Classifier:
    """An untrained classifier in eval mode with frozen parameters, as `load_classifier` gives it."""
    torch.manual_seed(seed)
    if architecture in LARGE and seed == 0 and input_size == "native":
        network = blank_classifier(architecture, input_size)
        state = torch.load(drawn(architecture), mmap=True)  # what a test changes is its own
        network.backbone.load_state_dict(state, assign=True)
        torch.manual_seed(seed)  # whether they were drawn just now or long ago
    else:
        network = build_classifier(architecture, "none", input_size)
    network = network.eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # nearly twice as fast


@functools.cache
def drawn(architecture: str) -> str:
    """A file of random weights, which this process draws once."""
    path = f"{DRAWN.name}/{architecture}.pt"
    torch.save(build_classifier(architecture, "none", "native").backbone.state_dict(), path)
    return path


def explainable(method: str, otherwise: str) -> str:
    """A small architecture that the method can explain: this one, unless it is for transformers."""
    return "timm/test_vit" if method in (*OF_TRANSFORMERS, "attn_lrp") else otherwise


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
