"""The explain stage: perturbation samples of two networks are independent, superpixels are shared."""

from argparse import Namespace

import numpy as np
import pytest
from ruamel.yaml import YAML

from conftest import CHEAP
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.pipeline import explain


@pytest.fixture
def heatmaps(raw, dataset, resnet, tmp_path, monkeypatch):
    """Heatmaps of one checkpoint as the network of this recipe and training."""
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    raw["network"] |= {name: {"architecture": "timm/test_resnet"} for name in ("one", "two")}
    raw["explain"].update(patches=4, repeat=2, chunk=4, batch_size=16)
    for method in ("lime", "smoothgrad"):
        raw["method"][method].update(CHEAP[method])
    YAML().dump(raw, tmp_path / "params.yaml")
    save_checkpoint(resnet, tmp_path / "network.safetensors")
    files = {"params": tmp_path / "params.yaml", "checkpoint": tmp_path / "network.safetensors", "patches": dataset}

    def of(method: str, recipe: str, training: str):
        path = tmp_path / f"{method}-{recipe}-{training}.h5"
        explain.main(Namespace(method=method, recipe=recipe, training=training, heatmaps=path, **files))
        return open_heatmaps(path)

    return of


@pytest.mark.parametrize("method", ["lime", "smoothgrad"])
def test_two_networks_have_perturbation_samples_of_their_own(heatmaps, method):
    first, *others = (
        heatmaps(method, *name) for name in (("one", "1"), ("one", "2"), ("two", "1"), ("one", "untrained"))
    )
    again = heatmaps(method, "one", "1")
    np.testing.assert_array_equal(first.read(), again.read())
    for other in others:
        np.testing.assert_array_equal(first.index, other.index)
        assert (first.read() != other.read()).any((1, 2)).all()
        # Another network's samples are as far from the first's as those of a repeat are.
        assert (first.repeated != other.read(slice(2))).any()


def test_superpixels_are_the_same_for_all_networks(heatmaps, tmp_path):
    maps = [heatmaps("lime", "one", training) for training in ("1", "2")]
    assert len(list((tmp_path / "work" / "superpixels").iterdir())) == 2  # of a chunk of four and of the two repeated
    for first, second in zip(*(of.read() for of in maps), strict=True):
        values = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
        assert values.shape[1] <= 9 + 4  # one pair of values a superpixel


def test_a_method_that_is_not_stochastic_does_not_depend_on_the_seed(heatmaps):
    first, second = (heatmaps("saliency", "one", training).read() for training in ("1", "2"))
    np.testing.assert_array_equal(first, second)
