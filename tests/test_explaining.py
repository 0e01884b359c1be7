"""A method over a split: chunks, processes, batch sizes."""

import json

import numpy as np
import pytest
import torch

from conftest import CHEAP, chosen
from pcam_agreement import explaining, networks, pcam, store
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


def test_the_fastest_precision_and_batch_size_are_measured_once_and_remembered(settings, resnet, tmp_path):
    checkpoint, memory = tmp_path / "network.safetensors", tmp_path / "fastest.json"
    networks.save(resnet, checkpoint)

    def fastest(method, **change):
        explanation = settings.explain.model_copy(update=change)
        return explaining.fastest_setting(checkpoint, method, explanation, CPU, memory)

    assert fastest("lime", precision="16", batch_size=5) == ("16", 5)
    assert not memory.exists()
    precision, size = fastest("lime", precision="auto", batch_size="auto")
    known = json.loads(memory.read_text())
    assert size in [2**power for power in range(3, 13)]
    full, reduced = known.values()
    assert precision == ("bf16" if reduced["patches_per_second"] >= 1.2 * full["patches_per_second"] else "32")
    for rate, expected in ((119, ("32", 7)), (121, ("bf16", 9))):
        speeds = {"batch_size": 7, "patches_per_second": 100}, {"batch_size": 9, "patches_per_second": rate}
        store.write_json(memory, dict(zip(known, speeds, strict=True)))
        assert fastest("occlusion", precision="auto", batch_size="auto") == expected
    assert fastest("occlusion", precision="32", batch_size="auto") == ("32", 7)


@pytest.mark.parametrize("method", ["smoothgrad", "lime", "kernel_shap", "random"])
def test_another_seed_draws_another_map_and_the_same_seed_the_same(method, patches, settings, resnet):
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    first, again, other = (
        explaining.explain_patches(resnet, patches[:1], [seed], method, cheap, settings.explain, Batch(16))["heatmaps"]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
