"""A method over a split: chunks, processes, batch sizes."""

import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from conftest import CHEAP, chosen
from pcam_agreement import explaining, inference, networks, pcam, store
from pcam_agreement.attribution import DRAWN
from pcam_agreement.attribution.batches import Batch
from pcam_agreement.processes import Process

CPU = torch.device("cpu")


def of(rank: int, count: int) -> Process:
    return Process(rank, count, CPU, lambda: None)


def explain(network, dataset, settings, folder, process, method="lime", chunk=2, count=7, repeat=0):
    folder.mkdir(exist_ok=True, parents=True)
    split = pcam.read(dataset, "test")
    index = pcam.draw(split.labels, count, 0)
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    explanation = settings.explain.model_copy(update={"chunk": chunk, "repeat": repeat})
    shared = folder.parent / "superpixels"
    return explaining.explain(
        network, split.patches, index, method, cheap, explanation, 0, process, Batch(16), folder, shared
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


def test_merging_takes_the_memory_of_a_chunk_however_many_there_are(tmp_path):
    peaks = []
    for count in (4, 32):
        paths = [tmp_path / f"{number}.npz" for number in range(count)]
        for number, path in enumerate(paths):
            chunk = {"index": np.arange(8) + 8 * number, "heatmaps": np.ones((8, 96, 96), np.float16)}
            store.write_chunk(path, chunk)
        tracemalloc.start()
        store.merge_chunks(paths, tmp_path / "merged.h5", 8 * count, {})
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
            monkeypatch.setattr(explaining.superpixels, "superpixels_of_all", None)  # would fail if it were called
        again, _ = explain(resnet, dataset, settings, (folder or tmp_path / "other") / name, of(0, 1))
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    monkeypatch.undo()
    found = explaining.explain_patches(
        resnet,
        inference.to_device(pcam.read(dataset, "test").patches[index[:2]], CPU),
        [explaining.patch_seed(0, int(patch)) for patch in index[:2]],
        "lime",
        chosen(settings, "lime", **CHEAP["lime"]),
        settings.explain,
        Batch(16),
    )
    with np.load(first[0]) as chunk:
        np.testing.assert_array_equal(found["heatmaps"], chunk["heatmaps"])


def test_the_first_patches_are_explained_again_with_other_draws_where_a_method_draws(
    dataset, settings, resnet, tmp_path
):
    for method, expected in (("lime", 3), ("saliency", 0)):
        paths, index = explain(resnet, dataset, settings, tmp_path / method, of(0, 1), method, chunk=4, repeat=3)
        store.merge_chunks(paths, tmp_path / f"{method}.h5", len(index), {})
        found = store.open_heatmaps(tmp_path / f"{method}.h5")
        assert found.repeated.shape == (expected, 96, 96)
        assert found.index.tolist() == index.tolist()
        assert len(found.read()) == len(index)
        for heatmap, again in zip(found.read(), found.repeated, strict=False):
            assert (heatmap != again).any()
            assert np.corrcoef(heatmap.ravel().astype(float), again.ravel().astype(float))[0, 1] > 0.3
    with pytest.raises(AssertionError, match="what is repeated"):
        store.merge_chunks(paths, tmp_path / "wrong.h5", len(index) - 1, {})


def test_the_fastest_precision_and_batch_size_are_measured_once_and_remembered(settings, resnet, tmp_path):
    checkpoint, memory = tmp_path / "network.safetensors", tmp_path / "fastest.json"
    networks.save(resnet, checkpoint)

    def fastest(method, **change):
        explanation = settings.explain.model_copy(update=change)
        return explaining.fastest_setting(checkpoint, method, explanation, CPU, memory)

    assert fastest("lime", precision="16", batch_size=5) == ("16", 5)
    assert not memory.exists()
    with ThreadPoolExecutor(2) as pool:  # as two stages side by side
        other = pool.submit(fastest, "saliency", precision="32", batch_size="auto")
        precision, size = fastest("lime", precision="auto", batch_size="auto")
        assert other.result()[0] == "32"
    known = json.loads(memory.read_text())
    assert sum("gradient" in key for key in known) == 1
    known = {key: measured for key, measured in known.items() if "forward" in key}
    assert size in [2**power for power in range(3, 13)]
    full, reduced = known.values()
    assert precision == ("bf16" if reduced["patches_per_second"] >= 1.2 * full["patches_per_second"] else "32")
    for rate, expected in ((119, ("32", 7)), (121, ("bf16", 9))):
        speeds = {"batch_size": 7, "patches_per_second": 100}, {"batch_size": 9, "patches_per_second": rate}
        store.write_json(memory, dict(zip(known, speeds, strict=True)))
        assert fastest("occlusion", precision="auto", batch_size="auto") == expected
    assert fastest("occlusion", precision="32", batch_size="auto") == ("32", 7)


@pytest.mark.parametrize("method", [*DRAWN, "random"])
def test_another_seed_draws_another_map_and_the_same_seed_the_same(method, patches, settings, resnet):
    cheap = chosen(settings, method, **CHEAP.get(method, {}))
    first, again, other = (
        explaining.explain_patches(resnet, patches[:1], [seed], method, cheap, settings.explain, Batch(16))["heatmaps"]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
