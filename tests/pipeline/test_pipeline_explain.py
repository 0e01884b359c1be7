"""The explain stage: independent perturbation samples, shared superpixels, heatmaps in 8 bits."""

from argparse import Namespace

import numpy as np
import pytest
from ruamel.yaml import YAML

from conftest import CHEAP, ready
from pcam_agreement.core.files import read_arrays
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.heatmaps.levels import quantise, restore
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.pipeline import compare, explain


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


@pytest.fixture
def compared(raw, dataset, resnet, tmp_path, monkeypatch):
    """Heatmaps of two networks by a method in this form, and the arrays of their agreement."""
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    networks = {"one": resnet, "two": ready("timm/test_resnet", seed=1)}
    raw["network"] |= {name: {"architecture": "timm/test_resnet"} for name in networks}
    raw["recipes"], raw["trainings"] = list(networks), [1]
    raw["method"]["lime"].update(CHEAP["lime"])
    for name, network in networks.items():
        save_checkpoint(network, tmp_path / f"{name}.safetensors")

    def of(method: str, storage: str):
        raw["explain"].update(patches=6, repeat=2, chunk=4, batch_size=16, storage=storage)
        YAML().dump(raw, tmp_path / "params.yaml")
        files, folder = {"params": tmp_path / "params.yaml", "patches": dataset}, tmp_path / storage / method
        paths = {name: folder / name / "1.h5" for name in networks}
        for name, path in paths.items():
            files["checkpoint"] = tmp_path / f"{name}.safetensors"
            explain.main(Namespace(method=method, recipe=name, training="1", heatmaps=path, **files))
        compare.main(Namespace(heatmaps=folder, agreement=folder / "agreement.h5", **files))
        return paths["one"], read_arrays(folder / "agreement.h5")

    return of


@pytest.mark.parametrize(("method", "tolerance"), [("saliency", 0.015), ("lime", 0)])
def test_heatmaps_of_8_bits_give_the_same_agreement_exactly_where_they_are_of_superpixels(compared, method, tolerance):
    (full, before), (small, after) = (compared(method, storage) for storage in ("float16", "uint8"))
    a, b = open_heatmaps(full), open_heatmaps(small)
    assert a.settings == b.settings
    for maps, restored in ((a.read(), b.read()), (a.repeated, b.repeated)):
        np.testing.assert_array_equal(restored, restore(*quantise(maps)))
    assert (a.read() == b.read()).all() == (tolerance == 0)
    assert before.keys() == after.keys()
    for name in ("iou", "curve_iou", "weighted_iou", "spearman", "repeat_iou", "null_iou", "centre_mass"):
        np.testing.assert_allclose(after[name], before[name], atol=tolerance, err_msg=name)


def test_in_8_bits_a_run_that_was_killed_ends_in_the_same_bytes(compared, monkeypatch):
    path, _ = compared("saliency", "uint8")
    before = path.read_bytes()
    path.unlink()

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(explain, "merge_chunks", killed)
        compared("saliency", "uint8")
    compared("saliency", "uint8")
    assert path.read_bytes() == before
