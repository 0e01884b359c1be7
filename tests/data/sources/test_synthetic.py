"""Synthetic patches keep PCam's rules, repeat exactly, and show tumour by its morphology rather than its colour."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pcam_agreement.core.patch import CENTRE
from pcam_agreement.data.pcam import SPLITS, Split, file_name, read_split
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from pcam_agreement.data.tissue import STAINS, TUMOUR

KEY = (0, 0, 0)


def settings(train: int, valid: int, test: int, patches: int) -> DrawnSlides:
    return DrawnSlides(slides=SplitSlides(train=train, valid=valid, test=test), patches_per_slide=patches)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    synthetic.write(folder, settings(2, 1, 1, 25), seed=3)
    return folder


@pytest.fixture(scope="module")
def fewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fewer")
    synthetic.write(folder, settings(1, 1, 1, 25), seed=3)
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    folder = tmp_path_factory.mktemp("large")
    synthetic.write(folder, settings(10, 1, 4, 224), seed=0)
    return {name: read_split(folder, name) for name in SPLITS}


def test_same_seed_gives_the_same_bytes(small: Path, fewer: Path):
    for split in ("valid", "test"):
        for kind in ("x", "y", "mask", "meta"):
            name = file_name(split, kind)
            assert (small / name).read_bytes() == (fewer / name).read_bytes()


def test_a_slide_does_not_depend_on_how_many_there_are_or_on_who_draws_it(small: Path, fewer: Path):
    single, double = read_split(fewer, "train"), read_split(small, "train")
    np.testing.assert_array_equal(single.patches, double.patches[:25])
    np.testing.assert_array_equal(single.masks, double.masks[:25])
    pd.testing.assert_frame_equal(single.meta, double.meta[:25])
    np.testing.assert_array_equal(synthetic.patches((3, 0, 1), 25), double.patches[25:])


def test_another_seed_split_or_slide_gives_another_patch(small: Path):
    train, valid = read_split(small, "train"), read_split(small, "valid")
    first_patches = [train.patches[0], train.patches[25], valid.patches[0], synthetic.patches(KEY, 25)[0]]
    assert len({patch.tobytes() for patch in first_patches}) == 4


def test_files_are_those_of_pcam(small: Path):
    assert set(contents(small)) == {file_name(split, kind) for split in SPLITS for kind in ("x", "y", "mask", "meta")}
    header, first = (small / file_name("train", "meta")).read_text().splitlines()[:2]
    assert header == ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"
    assert first.split(",")[3] in ("True", "False")
    assert first.endswith(",synthetic_train_000")


@pytest.mark.parametrize("name", SPLITS)
def test_label_meta_and_mask_tell_the_same(small: Path, name: str):
    split = read_split(small, name)
    assert split.masks is not None
    centre = split.masks[:, CENTRE, CENTRE]
    np.testing.assert_array_equal(split.labels, centre.any((1, 2)))
    np.testing.assert_array_equal(split.labels, split.meta["center_tumor_patch"])
    np.testing.assert_array_equal(split.masks.any((1, 2)), split.meta["tumor_patch"])


def test_splits_share_no_slide(small: Path):
    slides = [name for split in SPLITS for name in read_split(small, split).meta["wsi"].unique()]
    assert len(slides) == len(set(slides)) == 4


def test_every_slide_is_balanced_and_a_fifth_of_its_negatives_have_tumour_off_centre():
    for slide in range(4):
        rows = synthetic.rows((0, 0, slide), 100)
        negative = rows[~rows["center_tumor_patch"]]
        assert len(negative) == 50
        assert negative["tumor_patch"].sum() == 10


def test_no_position_is_drawn_twice():
    rows = synthetic.rows(KEY, 2000)
    assert not rows.duplicated(["coord_y", "coord_x"]).any()


def test_coordinates_are_where_the_patch_was_cut():
    tissues, _ = synthetic.plan(KEY, 1)
    row = synthetic.rows(KEY, 5).iloc[-1]
    cut = tissues[row.coord_y : row.coord_y + 96, row.coord_x : row.coord_x + 96]
    np.testing.assert_array_equal(cut == TUMOUR, synthetic.masks(KEY, 5)[-1])


def test_more_patches_than_a_slide_has_room_for_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="patches_per_slide of at most 4096, got 5000; use more slides"):
        synthetic.write(tmp_path, settings(1, 1, 1, 5000), seed=0)
    assert not any(tmp_path.iterdir())


def colours(split: Split) -> np.ndarray:
    """Mean and deviation of every channel, of the patch and of its centre: [n, 12]."""
    whole = split.patches / np.float32(255)
    regions = (whole, whole[:, CENTRE, CENTRE])
    return np.concatenate([moment for region in regions for moment in (region.mean((1, 2)), region.std((1, 2)))], 1)


@pytest.mark.slow
def test_colour_alone_does_not_tell_tumour(large: dict[str, Split]):
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(colours(large["train"]), large["train"].labels)
    scores = probe.decision_function(colours(large["test"]))
    assert roc_auc_score(large["test"].labels, scores) < 0.75


@pytest.mark.slow
def test_a_small_network_tells_tumour_on_slides_it_has_not_seen(large: dict[str, Split]):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers, width = [], 3
    for wider in (24, 32, 64, 64):
        layers += [torch.nn.Conv2d(width, wider, 5, stride=2, padding=2), torch.nn.BatchNorm2d(wider), torch.nn.ReLU()]
        width = wider
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(width * 36, 1))

    def inputs(patches: np.ndarray):
        return (torch.from_numpy(np.array(patches)).permute(0, 3, 1, 2) / 255 - 0.6) / 0.25

    train, test, epochs, size = large["train"], large["test"], 4, 32
    steps = epochs * (len(train.labels) // size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(train.labels))[: steps // epochs * size]
        for batch in order.reshape(-1, size):
            target = torch.from_numpy(train.labels[batch]).float()
            logits = network(inputs(train.patches[batch]))[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(inputs(test.patches[i : i + 256]))[:, 0] for i in range(0, len(test.labels), 256)])
    assert roc_auc_score(test.labels, logits.numpy()) > 0.95


def test_slides_are_stained_by_the_shared_table_to_two_digits():
    assert STAINS.tolist() == [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]
