"""Planted truth: networks that can only use one cue agree, networks that use different ones do not, at equal AUROC."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_synthetic import colours

from conftest import ROOT
from pcam_agreement.agreement.components import Networks
from pcam_agreement.agreement.decomposition import Decomposition, decompose
from pcam_agreement.agreement.overlaps import unpack
from pcam_agreement.agreement.shares import decompose_heatmaps
from pcam_agreement.core.files import read_arrays
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import read_params
from pcam_agreement.data.pcam import read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import planted
from pcam_agreement.data.tissue import MARGIN, SIDE
from pcam_agreement.networks.recipes import networks
from pcam_agreement.pipeline import compare, explain, fetch, train
from pcam_agreement.pipeline.params import Params, check_params
from pcam_agreement.report.metrics import auroc
from pcam_agreement.report.shares import overlap_with_untrained

TRAIN, TEST = (0, 0, 0), (0, 2, 0)
TOP = 0.05  # of the pixels: about the area of a cue


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two architectures, each with each cue: four recipes, two trainings and an untrained network of each."""
    raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    raw["data"]["source"] = "planted"
    raw["data"]["planted"] = {"slides": {"train": 8, "valid": 1, "test": 6}, "patches_per_slide": 96}
    raw["train"].update(lr=3e-3, epochs=4, fraction=1.0, batch_size=16, stain_jitter=0.0)
    raw["network"] = {
        f"{cue}_{architecture}": {"architecture": f"timm/test_{architecture}", "label": f"cue_{cue}", "epochs": epochs}
        for cue in ("one", "two")
        for architecture, epochs in (("byobnet", 4), ("efficientnet", 5))
    }
    raw["recipes"], raw["trainings"], raw["methods"] = list(raw["network"]), [1, 2, "untrained"], ["occlusion"]
    raw["explain"].update(patches=32)
    raw["method"]["occlusion"].update(stride=12)
    raw["agreement"].update(top_fraction=TOP)
    folder = tmp_path_factory.mktemp("planted")
    YAML().dump(raw, folder / "params.yaml")
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Params:
    return check_params(read_params(folder / "params.yaml"))


@pytest.fixture(scope="module")
def data(folder: Path, settings: Params) -> Path:
    """What the stages, as they are, make of these settings: data/ of a run."""
    data, file = folder / "data", folder / "params.yaml"
    patches, heatmaps = data / "patches", data / "heatmaps" / "occlusion"

    def run(stage, **arguments: object) -> None:
        stage.main(Namespace(params=file, **arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCAM_AGREEMENT_WORK", str(folder / "work"))
        run(fetch, out=patches)
        for network in networks(read_params(file)):
            names = {"recipe": network.recipe, "training": network.training, "patches": patches}
            names["checkpoint"] = network.path(data / "checkpoints", ".safetensors")
            history, logits = network.path(data / "history"), network.path(data / "logits", ".h5")
            run(train, features=folder / "none.h5", history=history, logits=logits, **names)
            run(explain, method="occlusion", heatmaps=network.path(heatmaps, ".h5"), **names)
        run(compare, patches=patches, heatmaps=heatmaps, agreement=data / "agreement.h5")
    return data


def assert_cues_are_told_apart(result: Decomposition, same: float, different: float) -> None:
    """By A of recipes that learn one cue, and of those that learn two; recipes are named by their cue first."""
    values = {pair: round(estimate.value, 3) for pair, estimate in result.agreement.items()}
    for (a, b), value in values.items():
        if a.split("_")[0] == b.split("_")[0]:
            assert value >= same, values
        else:  # may be below 0: the cues of one patch are apart, those of two patches may meet
            assert -1 <= value <= different, values


@pytest.mark.parametrize("seed", range(3))
def test_made_up_heatmaps_of_one_cue_have_an_a_of_one_and_those_of_two_cues_none(seed):
    keys, n = [(seed, 2, slide) for slide in range(8)], 8
    cues = np.concatenate([planted.masks(key, n) for key in keys])
    labels = np.concatenate([planted.rows(key, n)["center_tumor_patch"] for key in keys])
    recipes = [f"{cue}_{number}" for cue in ("one", "two") for number in (1, 2)]
    names = [recipe for recipe in recipes for _ in range(3)] + recipes
    maps = np.random.default_rng(seed).exponential(size=(len(names), *cues.shape))
    for row, name in enumerate(names[:12]):
        maps[row] += 6 * (cues == (1 if name.startswith("one") else 2))
    slides, trained = np.repeat(np.arange(len(keys)), n), [row < 12 for row in range(len(names))]
    tumour = labels == 1  # on the other patches nothing is planted
    result = decompose_heatmaps(
        maps[:, tumour], names, labels[tumour], slides[tumour], trained=trained, fraction=TOP, sigma=0
    )
    assert_cues_are_told_apart(result, same=0.95, different=0.05)
    assert max(abs(estimate.value) for estimate in result.imprint.values()) < 0.02


@pytest.mark.parametrize("key", [TRAIN, (0, 1, 0), TEST])
def test_cues_are_whole_apart_and_where_the_mask_says(key):
    rows, masks = planted.rows(key, 100), planted.masks(key, 100)
    size = (np.abs(planted.AROUND) <= planted.RADIUS).sum()
    for number, cue in enumerate(planted.CUES, 1):
        np.testing.assert_array_equal((masks == number).sum((1, 2)), size * rows[cue])
    np.testing.assert_array_equal(masks.any((1, 2)), rows["center_tumor_patch"])


def test_cue_one_is_blue_and_cue_two_is_red_where_the_mask_says():
    patches, masks = planted.patches(TEST, 100).astype(float), planted.masks(TEST, 100)
    np.testing.assert_array_equal(patches, planted.patches(TEST, 100))
    red = patches[..., 0]
    assert red[masks == 1].mean() < red[masks == 0].mean() < red[masks == 2].mean()


def test_cues_are_independent_in_train_and_together_elsewhere():
    assert planted.rows(TRAIN, 100)[[*planted.CUES]].value_counts().tolist() == [25] * 4
    for split in (1, 2):
        rows = planted.rows((0, split, 0), 100)
        assert rows["center_tumor_patch"].sum() == 50
        for cue in planted.CUES:
            np.testing.assert_array_equal(rows[cue], rows["center_tumor_patch"])


def test_patches_of_a_slide_do_not_overlap():
    rows = planted.rows(TRAIN, 100)
    assert len(set(zip(rows["coord_y"] // PATCH, rows["coord_x"] // PATCH, strict=True))) == 100
    assert rows[["coord_y", "coord_x"]].to_numpy().max() + PATCH <= SIDE - MARGIN


def test_more_patches_than_a_slide_has_are_refused(tmp_path: Path):
    slides = SplitSlides(train=1, valid=1, test=1)
    with pytest.raises(ValueError, match="patches_per_slide of at most 100, got 101; use more slides"):
        planted.write(tmp_path, DrawnSlides(slides=slides, patches_per_slide=101), seed=0)


@pytest.mark.slow
def test_networks_of_one_cue_agree_and_networks_of_different_cues_do_not_though_all_perform_alike(data, folder):
    chosen = networks(read_params(folder / "params.yaml"))
    trained = [network for network in chosen if network.trained]
    logits = {network.name: read_arrays(network.path(data / "logits", ".h5")) for network in trained}
    scores = {name: auroc(arrays["test_logits"], arrays["test_labels"]) for name, arrays in logits.items()}
    assert min(scores.values()) > 0.95, scores
    headline = next(iter(unpack(read_arrays(data / "agreement.h5"), "overlap").values()))
    recipes, architectures, is_trained = zip(*((n.recipe, n.architecture, n.trained) for n in chosen), strict=True)
    # On normal patches nothing is planted.
    result = decompose(headline.of_label(1), Networks(recipes, architectures, is_trained))
    assert_cues_are_told_apart(result, same=0.8, different=0.1)
    assert abs(overlap_with_untrained(result, chosen)) <= 0.1


@pytest.mark.slow
def test_colour_alone_tells_neither_cue(data):
    train, test = read_split(data / "patches", "train"), read_split(data / "patches", "test")
    for cue in planted.CUES:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(colours(train), train.meta[cue])
        assert roc_auc_score(test.meta[cue], probe.decision_function(colours(test))) < 0.75
