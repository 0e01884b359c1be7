"""A method over a split: chunks, processes, batch sizes."""

import json

import numpy as np
import pytest
import torch

from conftest import CHEAP, chosen, ready
from pcam_agreement import explaining, pcam, store
from pcam_agreement.attribution.batches import Batch
from pcam_agreement.processes import Process

CPU = torch.device("cpu")


def of(rank: int, count: int) -> Process:
    return Process(rank, count, CPU, lambda: None)


def explain(network, dataset, settings, folder, process, method="lime", chunk=2, count=7):
    folder.mkdir(exist_ok=True)
    split = pcam.read(dataset, "test")
    index = pcam.draw(split.labels, count, 0)
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    explanation = settings.explain.model_copy(update={"chunk": chunk})
    return explaining.explain(
        network, split.patches, index, method, cheap, explanation, 0, process, Batch(16), folder
    ), index


def test_two_processes_leave_the_files_that_one_leaves(dataset, settings, resnet, tmp_path):
    alone, index = explain(resnet, dataset, settings, tmp_path / "alone", of(0, 1))
    explain(resnet, dataset, settings, tmp_path / "shared", of(0, 2))
    assert len(list((tmp_path / "shared").iterdir())) == 2
    shared, _ = explain(resnet, dataset, settings, tmp_path / "shared", of(1, 2))
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in alone]
    store.merge_chunks(shared, tmp_path / "merged.h5", len(index), {})
    assert store.open_heatmaps(tmp_path / "merged.h5").index.tolist() == index.tolist()


def test_the_last_chunk_may_hold_one_patch_and_chunks_do_not_change_the_maps(dataset, settings, resnet, tmp_path):
    small, index = explain(resnet, dataset, settings, tmp_path / "small", of(0, 1), "saliency", chunk=3)
    large, _ = explain(resnet, dataset, settings, tmp_path / "large", of(0, 1), "saliency", chunk=100)
    assert [len(np.load(path)["index"]) for path in small] == [3, 3, 1]
    for name, paths in (("small", small), ("large", large)):
        store.merge_chunks(paths, tmp_path / f"{name}.h5", len(index), {})
    one, other = (store.open_heatmaps(tmp_path / f"{name}.h5").read().astype(float) for name in ("small", "large"))
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


def test_the_best_batch_size_is_measured_once_and_remembered(tmp_path):
    network, memory = ready("timm/resnet10t"), tmp_path / "batch_sizes.json"
    size = explaining.best_batch_size(network, "lime", "32", CPU, memory)
    assert size in [2**power for power in range(3, 13)]
    (key,) = json.loads(memory.read_text())
    store.write_json(memory, {key: 7})
    assert explaining.best_batch_size(network, "occlusion", "32", CPU, memory) == 7
    assert explaining.best_batch_size(network, "saliency", "32", CPU, memory) != 7


@pytest.mark.parametrize("method", ["smoothgrad", "lime", "kernel_shap", "random"])
def test_another_seed_draws_another_map_and_the_same_seed_the_same(method, patches, settings, resnet):
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    first, again, other = (
        explaining.explain_patches(resnet, patches[:1], [seed], method, cheap, settings.explain, Batch(16))["heatmaps"]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
