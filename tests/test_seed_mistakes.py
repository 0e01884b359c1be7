"""One test for each mistake of the course project that this one continues; each fails on that mistake.

The numbers are those of the list in the README ("What was wrong before").
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import PCAM

from conftest import CHEAP, ready
from pcam_agreement import agreement, explaining, heatmap, inference, networks, params, pcam, resume, scores, store
from pcam_agreement.architectures import NETWORKS
from pcam_agreement.attribution import METHODS, path, surrogate
from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.gradient import gradient
from pcam_agreement.attribution.score import make_score
from pcam_agreement.attribution.superpixels import superpixels

CPU = torch.device("cpu")
SEEDS = list(range(8))


class Shifted(torch.nn.Module):
    """A network whose logits are moved and scaled."""

    def __init__(self, network, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.shift, self.scale = network, shift, scale
        self.backbone, self.spatial = network.backbone, network.spatial
        self.eval()

    def forward(self, patches):
        return self.network(patches) * self.scale + self.shift


def explained(network, patches, method, settings, **explanation):
    return explaining.explain_patches(
        network,
        patches,
        SEEDS[: len(patches)],
        method,
        getattr(settings.method, method).model_copy(update=CHEAP.get(method, {})),
        settings.explain.model_copy(update=explanation),
        Batch(16),
    )


def masks(found, fraction=0.25):
    return heatmap.top_mask(found["heatmaps"].reshape(len(found["heatmaps"]), -1).astype(np.float32), fraction)


def test_01_networks_are_explained_in_eval_mode(patches, settings, tmp_path):
    networks.save(ready("alexnet").train(), tmp_path / "a.safetensors")
    network = networks.load(tmp_path / "a.safetensors", CPU)
    first, again = (masks(explained(network, patches, "saliency", settings)) for _ in range(2))
    np.testing.assert_array_equal(agreement.overlap(first, again), 1)
    with pytest.raises(ValueError, match="train mode"):
        make_score(network.train(), torch.zeros(1), "tumour", "logit")


def test_02_the_test_labels_are_not_the_validation_labels():
    for kind in ("x", "y", "meta"):
        valid, test = (pcam.PUBLISHED[pcam.file_name(split, kind)] for split in ("valid", "test"))
        assert valid.archive_md5 != test.archive_md5
        assert valid.md5 != test.md5
    theirs = {"train": "train", "valid": "val", "test": "test"}
    for split, name in theirs.items():
        for kind, key in (("x", "images"), ("y", "targets")):
            ours = pcam.PUBLISHED[pcam.file_name(split, kind)].archive_md5
            assert ours == PCAM._FILES[name][key][2]


def test_03_lime_weighs_the_patch_itself_most_and_the_emptied_patch_least():
    z = torch.tensor([[1.0] * 8, [1, 1, 1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0], [0] * 8])[None]
    weights = surrogate.kernel(z, torch.tensor([8]), "distance", 0.25)[0]
    assert weights[0] == 1
    assert (weights.diff() < 0).all()
    wrong = surrogate.kernel(z, torch.tensor([8]), "similarity", 0.25)[0]
    assert (wrong[0] < 1e-3, wrong[3]) == (True, 1)


def test_04_agreement_stands_beside_its_chance_level():
    random = np.random.default_rng(0)
    noise = np.stack([heatmap.normalise(one)[0] for one in random.random((2, 60, 96, 96))])
    found = agreement.measure(noise, np.zeros((2, 60), bool), 0.25)
    assert found["iou"].mean() == pytest.approx(agreement.chance_iou(0.25), abs=2e-3)
    assert found["weighted_iou"].mean() == pytest.approx(found["weighted_iou_chance"].mean(), abs=2e-3)
    committed = json.loads((Path(__file__).parents[1] / "metrics" / "summary.json").read_text())
    for numbers in committed["agreement"].values():
        assert {"iou", "iou_low", "iou_high", "chance", "null", "floor", "ceiling"} <= set(numbers)


def test_05_a_mask_of_a_heatmap_with_ties_has_exactly_its_area(patches, settings, resnet):
    found = explained(resnet, patches, "lime", settings)
    np.testing.assert_allclose(masks(found).sum(1), 2304, rtol=1e-5)
    plain = heatmap.top_mask(found["heatmaps"].reshape(8, -1).astype(np.float32), 0.25, "all")
    assert plain.mean() > 0.26  # what a plain quantile selects


def test_06_irrelevant_stays_zero_and_is_not_mid_grey():
    signed = np.zeros((1, 1, 4, 4))
    signed[0, 0, 0] = (-1, 1, -1, 1)
    ours, theirs = (heatmap.reduce(signed, how)[0] for how in ("positive_of_sum", "minmax_of_sum"))
    assert (ours[1:] == 0).all()
    assert (theirs[1:] > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_07_every_network_is_asked_about_the_same_class(method, patches, settings, resnet):
    low, high = Shifted(resnet, -50), Shifted(resnet, 50)  # call every patch normal, or tumour; the same evidence
    ours = [explained(network, patches[:2], method, settings) for network in (low, high)]
    np.testing.assert_allclose(ours[0]["heatmaps"], ours[1]["heatmaps"], rtol=0.1, atol=0.1)
    if method == "lime":
        chosen = settings.method.lime.model_copy(update={"reduce": "positive_of_sum"})
        settings = settings.model_copy(update={"method": settings.method.model_copy(update={"lime": chosen})})
        ours = [explained(network, patches[:2], method, settings) for network in (low, high)]
        flipped = explained(low, patches[:2], method, settings, target="predicted")
        assert (agreement.overlap(masks(flipped), masks(ours[1])) < 0.35).all()


def test_08_superpixels_belong_to_the_patch_and_are_fine_enough(dataset, settings):
    lime = settings.method.lime
    for patch in pcam.read(dataset, "test").patches[:8]:
        labels = superpixels(patch / 255.0, lime.superpixels, lime.segments)
        assert labels.shape == (96, 96)
        assert 50 <= labels.max() + 1 <= 100
        assert len(np.unique(labels)) == labels.max() + 1


def test_09_a_network_that_is_very_sure_still_has_a_heatmap(patches, settings, resnet):
    sure = Shifted(resnet, 120)
    found = explained(sure, patches, "saliency", settings)
    assert not found["constant"].any()
    theirs = explained(sure, patches, "saliency", settings, output="probability")
    assert theirs["constant"].all()
    pair = np.stack([theirs["heatmaps"], found["heatmaps"]])
    pair[0, 0] = pair[1, 0]  # one patch has a map after all
    constant = np.stack([theirs["constant"], found["constant"]])
    constant[0, 0] = False
    iou = agreement.measure(pair, constant, 0.25)["iou"][0]
    assert iou[0] == 1
    assert np.isnan(iou[1:]).all()
    assert np.nanmean(iou) == 1


def test_10_integrated_gradients_are_converged_or_say_that_they_are_not(patches, settings, resnet):
    score = make_score(resnet, resnet(patches[:4]), "tumour", "logit")
    found = {}
    for nodes, most in ((256, 256), (4, 32)):
        chosen = settings.method.integrated_gradients.model_copy(update={"nodes": nodes, "max_nodes": most})
        found[nodes] = METHODS["integrated_gradients"](score, patches[:4], SEEDS, chosen, Batch(64))
    attribution, diagnostics = found[4]
    exact = heatmap.top_mask(np.abs(found[256][0].sum(1)).reshape(4, -1).numpy(), 0.25)
    ours = heatmap.top_mask(np.abs(attribution.sum(1)).reshape(4, -1).numpy(), 0.25)
    wrong = path.quadrature("right", 20)
    assert ((diagnostics["stability"] >= 0.9) | diagnostics["unconverged"].bool()).all()
    assert (agreement.overlap(ours, exact) > 0.85).all()  # the seed's reached 0.59
    assert wrong[0][-1] == 1  # the right sum leans to the patch's own gradient
    assert (path.baseline(patches, settings.method.integrated_gradients.baseline) == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["inception_v3", "vit_b_16"])
def test_11_heatmaps_are_born_in_patch_pixels(architecture, patches, settings):
    found = explained(ready(architecture, input_size="architecture"), patches[:1], "saliency", settings)
    assert found["heatmaps"].shape == (1, 96, 96)
    np.testing.assert_allclose(found["heatmaps"].astype(float).mean(), 1, rtol=1e-2)


def test_12_patches_are_a_seeded_stratified_draw_and_lime_is_seeded(patches, settings, resnet):
    labels = np.repeat([0, 1], [300, 100])
    index = pcam.draw(labels, 40, 0)
    assert labels[index].sum() == 10
    assert (index == pcam.draw(labels, 40, 0)).all()
    assert (index != pcam.draw(labels, 40, 1)).any()
    assert index.max() > 40
    first, again = (explained(resnet, patches[:2], "lime", settings)["heatmaps"] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_13_heatmaps_are_counted_by_the_patch_and_remembered_by_checkpoint_and_settings(tmp_path, monkeypatch):
    chunk = {"heatmaps": np.zeros((2, 4, 4), np.float16), "index": np.array([3, 5])}
    store.write_chunk(tmp_path / "a.npz", chunk)
    store.write_chunk(tmp_path / "b.npz", {**chunk, "index": np.array([5, 7])})
    with pytest.raises(AssertionError, match="2 of 4"):
        store.merge_chunks([tmp_path / "a.npz"], tmp_path / "c.h5", 4, {})
    with pytest.raises(AssertionError, match="3 of 4"):
        store.merge_chunks([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "c.h5", 4, {})
    assert not list(tmp_path.glob("c.h5*"))
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    places = {resume.folder("explain", settings, checkpoint) for settings in "ab" for checkpoint in "cd"}
    assert len(places) == 4


def test_14_no_setting_is_without_effect(raw):
    """Weights, early stopping, optimiser and freezing are in test_networks.py and test_training.py."""
    source = "".join(path.read_text() for path in (Path(__file__).parents[1] / "src").rglob("*.py"))
    blocks = [params.Training, params.Network, params.Explanation, params.Evaluation, params.Agreement, params.Report]
    blocks += [params.Synthetic, params.Folder, params.PCam]
    blocks += [field.annotation for field in params.Methods.model_fields.values()]
    for block in blocks:
        for name in block.model_fields:
            assert f".{name}" in source, f"{block.__name__}.{name} is never read"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_15_one_builder_makes_every_network_for_every_use(architecture, dataset):
    network = ready(architecture)
    found = inference.logits(network, pcam.read(dataset, "test").patches[:3], 2, CPU)
    assert found.shape == (3,)
    assert np.isfinite(found).all()


def test_16_patches_are_explained_in_batches(patches, resnet):
    calls = []
    score = make_score(resnet, resnet(patches), "tumour", "logit")

    def counting(inputs, rows):
        calls.append(len(inputs))
        return score(inputs, rows)

    gradient(counting, patches, torch.arange(8))  # test_attribution.py has the equality with one at a time
    assert calls == [8]


def test_17_a_perfect_ranking_has_auroc_one_whatever_the_batches():
    logits, labels = np.array([0.1, 0.2, 0.9, 0.95, 1.5, 3.0]), np.array([0, 0, 0, 1, 1, 1])
    assert scores.scores(logits, labels, 0.0, 15)["auroc"] == 1


def test_18_a_last_batch_of_one_patch_keeps_its_shape(dataset, resnet):
    patches = pcam.read(dataset, "test").patches[:5]
    found = inference.logits(resnet, patches, 2, CPU)
    assert found.shape == (5,)
    np.testing.assert_allclose(found, inference.logits(resnet, patches, 5, CPU), rtol=1e-4, atol=1e-5)
