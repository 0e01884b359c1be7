"""Planted truth: networks that can only use one cue agree, networks that use different ones do not, at equal AUROC."""

from argparse import Namespace
from itertools import combinations
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
from pcam_agreement.agreement.null import null_iou
from pcam_agreement.agreement.pairs import ceilings, pair_kind
from pcam_agreement.core.files import read_arrays
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import read_params
from pcam_agreement.data.pcam import read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import planted
from pcam_agreement.data.tissue import MARGIN, SIDE
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.pipeline import compare, explain, fetch, train
from pcam_agreement.pipeline.params import Params, check_params
from pcam_agreement.report import bootstrap
from pcam_agreement.report.metrics import auroc

TRAIN, TEST = (0, 0, 0), (0, 2, 0)
TOP = 0.05  # of the pixels: about the area of a cue


def normalised(results, networks):
    """Normalised agreement of every pair of the networks, by name."""
    estimates = bootstrap.estimate(results, ceilings(networks), 200, 0)
    return dict(zip(combinations(networks, 2), estimates.normalised, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two architectures that learn one cue, one that learns the other, two of them twice, and one untrained."""
    raw = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")

    def network(architecture: str, label: str, seed: int, **change: int) -> dict:
        return {"architecture": f"timm/{architecture}", "label": label, "seed": seed, **change}

    raw["data"]["source"] = "planted"
    raw["data"]["planted"] = {"slides": {"train": 12, "valid": 1, "test": 8}, "patches_per_slide": 96}
    raw["train"].update(lr=3e-3, epochs=4, fraction=1.0, batch_size=16, stain_jitter=0.0)
    raw["network"] = {
        "one": network("test_byobnet", "cue_one", 0),
        "one_twin": network("test_byobnet", "cue_one", 1),
        "one_other": network("test_efficientnet", "cue_one", 0, epochs=6),
        "one_other_twin": network("test_efficientnet", "cue_one", 1, epochs=6),
        "two": network("test_byobnet", "cue_two", 0),
        "two_twin": network("test_byobnet", "cue_two", 1),
        "untrained": network("test_byobnet", "label", 2, epochs=0),
    }
    raw["networks"], raw["tested"], raw["methods"] = list(raw["network"]), [], ["occlusion"]
    raw["explain"].update(patches=48)
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
    patches, method = data / "patches", settings.methods[0]

    def run(stage, **arguments: object) -> None:
        stage.main(Namespace(params=file, **arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCAM_AGREEMENT_WORK", str(folder / "work"))
        run(fetch, out=patches)
        for name in settings.networks:
            network = {"patches": patches, "checkpoint": data / f"{name}.safetensors"}
            run(train, network=name, history=data / "history" / name, logits=data / f"{name}.h5", **network)
            run(explain, method=method, network=name, heatmaps=data / "heatmaps" / f"{name}.h5", **network)
        run(compare, patches=patches, heatmaps=data / "heatmaps", agreement=data / "agreement.h5")
    return data


def networks_of(settings: Params) -> dict[str, dict]:
    return {name: network.model_dump() for name, network in settings.network.items()}


def level(networks: dict[str, dict], a: str, b: str) -> str:
    """What is known of a pair before anything is measured."""
    if not (networks[a]["epochs"] and networks[b]["epochs"]):
        return "untrained"
    if pair_kind(networks[a], networks[b]) == "ceiling":
        return "ceiling"
    return "same" if networks[a]["label"] == networks[b]["label"] else "different"


def test_networks_that_learn_different_labels_are_a_trained_pair_and_no_ceiling(settings):
    assert pair_kind(networks_of(settings)["one"], networks_of(settings)["two"]) == "trained"
    assert pair_kind(networks_of(settings)["one"], networks_of(settings)["one_twin"]) == "ceiling"
    pairs = list(combinations(networks_of(settings), 2))
    expected = [[pairs.index(pair)] for pair in (("one", "one_twin"), ("two", "two_twin"))]
    assert ceilings(networks_of(settings))[pairs.index(("one", "two"))] == expected


@pytest.mark.parametrize("seed", range(3))
def test_heatmaps_of_one_cue_agree_and_heatmaps_of_different_cues_do_not(settings, seed):
    keys, n = [(seed, 2, slide) for slide in range(8)], 8
    cues = np.concatenate([planted.masks(key, n) for key in keys])
    labels = np.concatenate([planted.rows(key, n)["center_tumor_patch"] for key in keys])
    random = np.random.default_rng(seed)
    maps = random.exponential(size=(len(networks_of(settings)), *cues.shape))
    for row, network in enumerate(networks_of(settings).values()):
        if network["epochs"]:
            maps[row] += 6 * (cues == planted.CUES.index(network["label"]) + 1)
    masks = np.stack([top_mask(heatmaps.reshape(len(cues), -1), TOP) for heatmaps in maps])
    iou = np.stack([overlap(a, b) for a, b in combinations(masks, 2)])
    slides = np.repeat(np.arange(len(keys)), n)
    null = null_iou(masks, np.zeros(masks.shape[:2], bool), labels, slides)
    results = {"iou": iou, "null_iou": null, "labels": labels, "slides": slides}
    agreement = normalised(results, networks_of(settings))
    assert sum(np.isfinite(value) for value in agreement.values()) == len(agreement) - 3  # not the ceilings
    for (a, b), value in agreement.items():
        match level(networks_of(settings), a, b):
            case "same":
                assert value == pytest.approx(1, abs=0.05), (a, b)
            case "untrained" if np.isfinite(value):
                assert value == pytest.approx(0, abs=0.05), (a, b)
            case "different":  # below 0: the cues of one patch are apart, those of two patches may meet
                assert -0.1 < value < 0.05, (a, b)


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
def test_networks_of_one_cue_agree_and_networks_of_different_cues_do_not_though_all_perform_alike(data, settings):
    logits = {name: read_arrays(data / f"{name}.h5") for name in settings.networks}
    scores = {name: auroc(arrays["test_logits"], arrays["test_labels"]) for name, arrays in logits.items()}
    assert min(scores[name] for name, network in networks_of(settings).items() if network["epochs"]) > 0.95, scores
    results = read_arrays(data / "agreement.h5")
    tumour = results["labels"] == 1  # on the other patches nothing is planted
    on_tumour = {name: results[name][..., tumour] for name in ("iou", "null_iou", "labels", "slides")}
    agreement = normalised(on_tumour, networks_of(settings))
    rounded = {f"{a} ~ {b}": round(float(value), 3) for (a, b), value in agreement.items()}
    print(scores, rounded)
    for (a, b), value in agreement.items():
        match level(networks_of(settings), a, b):
            case "same":
                assert value >= 0.8, rounded
            case "different":
                assert value <= 0.2, rounded
            case "untrained" if np.isfinite(value):
                assert abs(value) <= 0.2, rounded


@pytest.mark.slow
def test_colour_alone_tells_neither_cue(data):
    train, test = read_split(data / "patches", "train"), read_split(data / "patches", "test")
    for cue in planted.CUES:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(colours(train), train.meta[cue])
        assert roc_auc_score(test.meta[cue], probe.decision_function(colours(test))) < 0.75
