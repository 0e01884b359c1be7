"""Bytes that are stated beforehand are those of files that are written."""

from argparse import Namespace

import numpy as np
import pytest
from ruamel.yaml import YAML

from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core.settings import section
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.pipeline import compare, compare_methods, volume

NETWORKS, PATCHES = ("one", "two", "three"), 24
MASKED_PATCH = 4 * 9216  # bytes


@pytest.fixture
def written(raw, dataset, tmp_path):
    """Parameters, and heatmaps of three networks by two methods, as explain writes them."""
    raw["network"] = {name: {"architecture": "timm/test_resnet"} for name in NETWORKS}
    raw["recipes"], raw["trainings"], raw["methods"] = list(NETWORKS), [1], ["saliency", "lime"]
    YAML().dump(raw, tmp_path / "params.yaml")
    index = np.arange(PATCHES)
    for method in raw["methods"]:
        for seed, name in enumerate(NETWORKS):
            maps = np.random.default_rng(seed).exponential(size=(PATCHES, 96, 96)).astype(np.float16)
            flags = {flag: np.zeros(PATCHES, bool) for flag in ("constant", "nonfinite")}
            chunk, path = tmp_path / "chunk.npz", tmp_path / "heatmaps" / method / name / "1.h5"
            write_chunk(chunk, {"index": index, "heatmaps": maps, "logits": np.zeros(PATCHES, np.float32), **flags})
            merge_chunks([chunk], path, PATCHES, {}, {})
    return tmp_path


@pytest.mark.parametrize("storage", ["float16", "uint8"])
def test_a_heatmap_file_is_as_large_as_is_said(tmp_path, storage):
    maps = np.random.default_rng(0).exponential(size=(40, 96, 96)).astype(np.float16)
    write_chunk(tmp_path / "a.npz", {"index": np.arange(40) % 30, "heatmaps": maps})
    merge_chunks([tmp_path / "a.npz"], tmp_path / "a.h5", 30, {}, {}, quantised=storage == "uint8")
    assert (tmp_path / "a.h5").stat().st_size == pytest.approx(volume.heatmap_bytes(30, 10, storage), abs=10_000)


def test_agreement_is_as_large_as_is_said(written, raw, dataset):
    files, settings = {"params": written / "params.yaml", "patches": dataset}, section(raw, "agreement", Agreement)
    slides = len(np.unique(read_split(dataset, "test").meta["wsi"][:PATCHES]))
    agreement = written / "agreement.h5"
    compare.main(Namespace(heatmaps=written / "heatmaps" / "saliency", agreement=agreement, **files))
    of_file = volume.compare_bytes(len(NETWORKS), PATCHES, settings, True, slides)
    assert agreement.stat().st_size - 16_000 == pytest.approx(of_file, rel=0.3)  # headers of 50 arrays
    compare_methods.main(Namespace(heatmaps=written / "heatmaps", agreement=written / "between", **files))
    size = (written / "between" / "one" / "1.h5").stat().st_size
    assert size - 6_000 == pytest.approx(volume.pair_bytes(2, PATCHES, settings), abs=3_000)


def test_drawn_patches_are_as_many_and_as_large_as_is_said(raw, dataset):
    splits = [read_split(dataset, name) for name in ("train", "valid", "test")]
    counts = {split.name: len(split.patches) for split in splits}
    per_slide = 1
    raw["data"]["synthetic"] = {"slides": counts, "patches_per_slide": per_slide}
    assert volume.patches(raw) == counts
    size, _ = volume.disk(raw, {}, {}, {}, 1)["patches"]
    on_disk = sum(path.stat().st_size for path in dataset.iterdir() if path.suffix == ".h5")
    assert size == MASKED_PATCH * sum(counts.values()) == pytest.approx(on_disk, rel=0.01)


def test_patches_of_other_sources_are_counted(raw, tmp_path):
    raw["data"]["source"] = "pcam"
    assert sum(volume.patches(raw).values()) == 327_680
    raw["data"]["source"] = "kaggle"
    assert sum(volume.patches(raw).values()) == 220_025
    ids = tmp_path / "ids.csv"
    ids.write_text("id,split\na,train\nb,train\nc,test\nd,valid\n")
    raw["data"]["kaggle"]["ids"] = str(ids)
    assert volume.patches(raw) == {"train": 2, "test": 1, "valid": 1}
    raw["data"]["source"] = "folder"
    with pytest.raises(ValueError, match=r"data\.folder\.path: expected a folder of patches, found None"):
        volume.patches(raw)
    for number in range(10):
        (tmp_path / f"images/tumour/{number}.png").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"images/tumour/{number}.png").touch()
    raw["data"]["folder"]["path"] = str(tmp_path / "images")
    assert volume.patches(raw) == {"train": 6, "valid": 2, "test": 2}


def test_seconds_of_more_sets_are_those_of_sets_and_of_pairs():
    a_set, a_pair = np.array([3.0, 5.0]), np.array([0.5, 0.0])

    def taken(m):
        return m * a_set + m * (m - 1) / 2 * a_pair

    for m in (1, 2, volume.SETS, 80):
        np.testing.assert_allclose(volume.of_more(m, taken(2), taken(volume.SETS)), taken(m))


def test_comparisons_of_a_thousand_patches_by_a_hundred_networks_take_longer_than_those_of_one(raw):
    raw["methods"] = ["saliency"]
    assert 0 < volume.compare_seconds(raw, 1, 100) < volume.compare_seconds(raw, 100, 1000)
