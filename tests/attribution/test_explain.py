"""A method over a split: chunks, processes, batch sizes."""

import tracemalloc
from types import ModuleType

import numpy as np
import pytest
import torch

from conftest import CHEAP, METHODS, chosen, explain_patches
from pcam_agreement.attribution.common import superpixels
from pcam_agreement.attribution.explain import Explainer
from pcam_agreement.core import plugins
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.data.pcam import read_split, stratified_sample
from pcam_agreement.heatmaps.file import merge_chunks, open_heatmaps, write_chunk
from pcam_agreement.inference.batch import Batch
from pcam_agreement.inference.processes import Process
from pcam_agreement.networks.logits import to_device

CPU = torch.device("cpu")
STOCHASTIC = [name for name in METHODS if plugins.load(plugins.METHODS, "method", name).STOCHASTIC]


def of(rank: int, count: int) -> Process:
    return Process(rank, count, CPU, lambda: None)


def explain(network, dataset, settings, folder, process, method="lime", chunk=2, count=7, repeat=0):
    folder.mkdir(exist_ok=True, parents=True)
    split = read_split(dataset, "test")
    index = stratified_sample(split.labels, count, 0)
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    explanation = settings.explain.model_copy(update={"chunk": chunk, "repeat": repeat})
    shared = folder.parent / "superpixels"
    module = plugins.load(plugins.METHODS, "method", method)
    explainer = Explainer(network, module, cheap, explanation, Batch(16))
    return explainer.explain(split.patches, index, 0, process, folder, shared), index


def test_two_processes_leave_the_files_that_one_leaves(dataset, settings, resnet, tmp_path):
    alone, index = explain(resnet, dataset, settings, tmp_path / "alone", of(0, 1))
    explain(resnet, dataset, settings, tmp_path / "shared", of(0, 2))
    assert len(list((tmp_path / "shared").iterdir())) == 2
    shared, _ = explain(resnet, dataset, settings, tmp_path / "shared", of(1, 2))
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in alone]
    merge_chunks(shared, tmp_path / "merged.h5", len(index), {}, {})
    assert open_heatmaps(tmp_path / "merged.h5").index.tolist() == index.tolist()


def test_the_last_chunk_may_hold_one_patch_and_chunks_do_not_change_the_maps(dataset, settings, resnet, tmp_path):
    small, index = explain(resnet, dataset, settings, tmp_path / "small", of(0, 1), "saliency", chunk=3)
    large, _ = explain(resnet, dataset, settings, tmp_path / "large", of(0, 1), "saliency", chunk=100)
    assert [len(np.load(path)["index"]) for path in small] == [3, 3, 1]
    for name, paths in (("small", small), ("large", large)):
        merge_chunks(paths, tmp_path / f"{name}.h5", len(index), {}, {})
    one, other = (open_heatmaps(tmp_path / f"{name}.h5").read().astype(float) for name in ("small", "large"))
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_a_finished_chunk_is_not_computed_again(dataset, settings, resnet, tmp_path):
    paths, _ = explain(resnet, dataset, settings, tmp_path / "work", of(0, 1))
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    explain(resnet, dataset, settings, tmp_path / "work", of(0, 1))
    assert [path.stat().st_mtime_ns == old for path, old in zip(paths, before, strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_merging_takes_the_memory_of_a_chunk_however_many_there_are(tmp_path):
    peaks = []
    for count in (4, 32):
        paths = [tmp_path / f"{number}.npz" for number in range(count)]
        for number, path in enumerate(paths):
            chunk = {"index": np.arange(8) + 8 * number, "heatmaps": np.ones((8, 96, 96), np.float16)}
            write_chunk(path, chunk)
        tracemalloc.start()
        merge_chunks(paths, tmp_path / "merged.h5", 8 * count, {}, {})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_superpixels_are_made_once_for_all_networks_and_are_those_of_the_method(
    dataset, settings, resnet, tmp_path, monkeypatch
):
    first, index = explain(resnet, dataset, settings, tmp_path / "first", of(0, 1))
    kept = list((tmp_path / "superpixels").iterdir())
    assert len(kept) == len(first)
    for name, folder in (("own", None), ("kept", tmp_path)):
        if folder:
            monkeypatch.setattr(superpixels, "superpixels_of_all", None)  # would fail if it were called
        again, _ = explain(resnet, dataset, settings, (folder or tmp_path / "other") / name, of(0, 1))
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    monkeypatch.undo()
    result = explain_patches(
        resnet,
        to_device(read_split(dataset, "test").patches[index[:2]], CPU),
        [seed_of(0, int(patch), 0) for patch in index[:2]],
        "lime",
        chosen(settings, "lime", **CHEAP["lime"]),
        settings.explain,
        Batch(16),
    )
    with np.load(first[0]) as chunk:
        np.testing.assert_array_equal(result["heatmaps"], chunk["heatmaps"])


def test_the_first_patches_are_explained_again_with_other_samples_by_a_stochastic_method(
    dataset, settings, resnet, tmp_path
):
    for method, expected in (("lime", 3), ("saliency", 0)):
        paths, index = explain(resnet, dataset, settings, tmp_path / method, of(0, 1), method, chunk=4, repeat=3)
        merge_chunks(paths, tmp_path / f"{method}.h5", len(index), {}, {})
        heatmaps = open_heatmaps(tmp_path / f"{method}.h5")
        assert heatmaps.repeated.shape == (expected, 96, 96)
        assert heatmaps.index.tolist() == index.tolist()
        assert len(heatmaps.read()) == len(index)
        for heatmap, again in zip(heatmaps.read(), heatmaps.repeated, strict=False):
            assert (heatmap != again).any()
            assert np.corrcoef(heatmap.ravel().astype(float), again.ravel().astype(float))[0, 1] > 0.3
    with pytest.raises(AssertionError, match="what is repeated"):
        merge_chunks(paths, tmp_path / "wrong.h5", len(index) - 1, {}, {})


@pytest.mark.parametrize("method", [*STOCHASTIC, "random"])
def test_another_seed_gives_another_map_and_the_same_seed_the_same(method, patches, settings, resnet):
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    first, again, other = (
        explain_patches(resnet, patches[:1], [seed], method, cheap, settings.explain, Batch(16))["heatmaps"]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            (torch.zeros(2, 96, 96, 3), {}),
            r"expected an attribution of shape \[2, channels, 96, 96\], found \[2, 96, 96, 3\]",
        ),
        ((torch.zeros(2, 96, 96), {}), r"found \[2, 96, 96\]"),
        ((torch.zeros(1, 3, 96, 96), {}), r"found \[1, 3, 96, 96\]"),
        (
            (torch.zeros(2, 3, 96, 96), {"delta": torch.zeros(2, 1)}),
            r"diagnostic delta with one number for each patch, shape \[2\], found \[2, 1\]",
        ),
    ],
)
def test_a_method_that_returns_another_shape_is_refused(returned, sentence, patches, settings, resnet):
    method = ModuleType("wrong")
    method.TITLE, method.attribute = "wrong", lambda *_: returned
    explainer = Explainer(resnet, method, chosen(settings, "saliency"), settings.explain, Batch(16))
    with pytest.raises(ValueError, match=sentence):
        explainer.heatmaps(to_device(patches[:2], CPU), [0, 1])
