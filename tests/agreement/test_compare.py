"""The compare stages: blocks of patches do not show in what they write; pairs of networks and of methods."""

import itertools
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy.stats import spearmanr

from pcam_agreement.agreement import compare as comparing
from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split, stratified_sample
from pcam_agreement.heatmaps.file import merge_chunks, open_heatmaps, write_chunk
from pcam_agreement.heatmaps.masks import normalise, overlap, top_mask
from pcam_agreement.networks.recipes import Network
from pcam_agreement.pipeline import compare, compare_methods
from pcam_agreement.report import bootstrap
from pcam_agreement.report.method_pairs import methods_table

NETWORKS = [Network("alexnet", "1", "alexnet"), Network("resnet34", "1", "resnet34")]
METHODS = ["saliency", "lime", "occlusion"]
PATCHES = 7


def write(path: Path, index: np.ndarray, seed: int) -> np.ndarray:
    """Heatmaps as explain writes them, with ties; the first one is constant. The first three again, upside down."""
    random = np.random.default_rng(seed)
    maps, constant = normalise(
        np.floor(random.exponential(3, size=(len(index), 96, 96))) * (index > index[0])[:, None, None]
    )
    heatmaps = maps.astype(np.float16)
    chunk = {"index": index, "heatmaps": heatmaps, "logits": np.zeros(len(index), np.float32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    chunk |= {"constant": constant, "nonfinite": constant}
    both = {name: np.concatenate([values, values[:3]]) for name, values in chunk.items()}
    both["heatmaps"][-3:] = both["heatmaps"][-3:, ::-1]
    write_chunk(path.with_suffix(".npz"), both)
    merge_chunks([path.with_suffix(".npz")], path, len(index), {}, {})
    return heatmaps


@pytest.fixture
def folder(dataset, raw, tmp_path):
    """Parameters, and heatmaps of two networks and three methods."""
    raw.update(recipes=[network.recipe for network in NETWORKS], trainings=[1], methods=METHODS)
    YAML().dump(raw, tmp_path / "params.yaml")
    index = stratified_sample(read_split(dataset, "test").labels, PATCHES, 0)
    for seed, (method, network) in enumerate(itertools.product(METHODS, NETWORKS)):
        write(network.path(tmp_path / method, ".h5"), index, seed)
    return tmp_path


def run(stage, folder: Path, patches: Path, heatmaps: Path, agreement: str) -> None:
    files = {"heatmaps": heatmaps, "agreement": folder / agreement}
    stage.main(Namespace(params=folder / "params.yaml", patches=patches, **files))


def test_several_blocks_give_every_patch_what_one_block_gives(dataset, folder, monkeypatch):
    results = {}
    for block, length in ((256, 32), (3, 1), (4, 2)):
        monkeypatch.setattr(comparing, "BLOCK", block)
        monkeypatch.setattr(comparing, "RUN", length)
        run(compare, folder, dataset, folder / "saliency", "results.h5")
        results[block] = read_arrays(folder / "results.h5")
    whole = results.pop(256)
    assert {"iou", "curve_iou", "curve", "centre_mass", "tumour_share", "area", "networks"} <= whole.keys()
    assert whole["curve_iou"].shape == (4, 1, PATCHES)
    assert len(set(whole["iou"][0, 1:])) == PATCHES - 1  # a patch in another's place would be seen
    assert np.isnan(whole["iou"][0, 0])
    for several in results.values():
        assert whole.keys() == several.keys()
        for name in whole.keys() - {"null_iou"}:  # which depends on the other patches of its block
            np.testing.assert_array_equal(whole[name], several[name], err_msg=name)


def test_heatmaps_of_other_perturbation_samples_are_compared_with_the_first(dataset, folder):
    run(compare, folder, dataset, folder / "saliency", "results.h5")
    results = read_arrays(folder / "results.h5")["repeat_iou"]
    assert results.shape == (len(NETWORKS), PATCHES)
    assert np.isnan(results[:, [0, *range(3, PATCHES)]]).all()  # constant; not repeated
    for network, iou in zip(NETWORKS, results, strict=True):
        heatmaps = open_heatmaps(network.path(folder / "saliency", ".h5")).read(slice(1, 3)).astype(float)
        masks = (top_mask(maps.reshape(2, -1), 0.25) for maps in (heatmaps, heatmaps[:, ::-1]))
        np.testing.assert_allclose(iou[1:3], overlap(*masks), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 256, 257, 1000, 4096])
def test_blocks_hold_every_patch_once_and_come_from_all_over(count):
    blocks = comparing.blocks(count, comparing.BLOCK)
    rows = [np.concatenate([np.arange(count)[run] for run in runs]) for runs in blocks]
    assert sorted(np.concatenate(rows)) == list(range(count))
    for of_block in rows:
        assert len(of_block) <= comparing.BLOCK + comparing.RUN
        assert of_block[-1] - of_block[0] > 0.8 * count or len(blocks) == 1


def test_methods_are_compared_on_each_network(dataset, folder):
    run(compare_methods, folder, dataset, folder, "between")
    assert sorted((folder / "between").rglob("*.h5")) == [n.path(folder / "between", ".h5") for n in NETWORKS]
    labels = read_split(dataset, "test").labels
    for network in NETWORKS:
        results = read_arrays(network.path(folder / "between", ".h5"))
        sets = [open_heatmaps(network.path(folder / method, ".h5")) for method in METHODS]
        flat = [maps.read().reshape(PATCHES, -1).astype(float) for maps in sets]
        masks = [top_mask(values, 0.25) for values in flat]
        assert results["methods"].tolist() == [method.encode() for method in METHODS]
        assert results["labels"].tolist() == labels[sets[0].index].tolist()
        for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
            assert results["pairs"][row].tolist() == [i, j]
            expected = {
                "iou": overlap(masks[i], masks[j]),
                "weighted_iou": overlap(flat[i], flat[j]),
                "spearman": np.array(
                    [spearmanr(a, b).statistic if a.any() else 0 for a, b in zip(flat[i], flat[j], strict=True)]
                ),
            }
            for name, values in expected.items():
                assert np.isnan(results[name][row, 0])
                np.testing.assert_allclose(results[name][row, 1:], values[1:], atol=1e-5)


def test_methods_of_one_slide_have_a_table_without_a_null(dataset, folder):
    run(compare_methods, folder, dataset, folder, "between")
    results = read_arrays(folder / "between" / "alexnet" / "1.h5")
    estimates = bootstrap.estimate(results, 100, 0)
    table = methods_table(NETWORKS[0], results, METHODS, estimates)
    assert table[["method_a", "method_b"]].to_numpy().tolist() == [
        list(pair) for pair in itertools.combinations(METHODS, 2)
    ]
    assert table["patches"].tolist() == [PATCHES - 1] * 3
    np.testing.assert_allclose(table["iou"], np.nanmean(results["iou"], 1), rtol=1e-6)
    assert table[["null", "excess", "iou_low", "excess_high"]].isna().all(axis=None)


def test_one_method_has_no_pairs_and_a_table_of_its_header(dataset, folder, raw):
    raw["methods"] = METHODS[:1]
    YAML().dump(raw, folder / "params.yaml")
    run(compare_methods, folder, dataset, folder, "between")
    results = read_arrays(folder / "between" / "alexnet" / "1.h5")
    estimates = bootstrap.estimate(results, 100, 0)
    table = methods_table(NETWORKS[0], results, METHODS[:1], estimates)
    assert table.empty
    assert {"network", "method_a", "method_b", "iou", "null", "excess_low"} <= set(table.columns)


def test_sets_that_do_not_fit_are_one_sentence(dataset, folder):
    (folder / "lime" / "alexnet" / "1.h5").unlink()
    with pytest.raises(ValueError, match=r"lime/alexnet/1\.h5 is missing; run the stage that writes it"):
        run(compare_methods, folder, dataset, folder, "between")
    write(folder / "lime" / "alexnet" / "1.h5", np.arange(PATCHES - 1), 0)
    with pytest.raises(ValueError, match=r"lime/alexnet/1\.h5: lime was explained on other patches; run explain"):
        run(compare_methods, folder, dataset, folder, "between")
    with pytest.raises(ValueError, match=r"resnet34/1\.h5: resnet34-1 was explained on other patches; run explain"):
        run(compare, folder, dataset, folder / "lime", "results.h5")
