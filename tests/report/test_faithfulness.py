"""The verdict on heatmaps against simulations whose truth is known."""

import numpy as np
import pytest
import torch

from deletion import FEW, SIDE, Square, Weighted, areas_of, noise, signed
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import faithfulness
from pcam_agreement.report.faithfulness import count_verdicts, faithfulness_table

GAINS = ("deletion_gain", "insertion_gain")


@pytest.fixture
def chosen(settings):
    return settings.faithfulness.model_copy(update=FEW)


def table_of(areas, slides, seed=0):
    tested = [(Network("network", "1", "alexnet"), {**areas, "slides": np.asarray(slides)})]
    return faithfulness_table("lime", tested, 400, seed).iloc[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_no_ranking_beats_the_true_one_whichever_way_the_score_goes(chosen, sign):
    patches, weight = noise(12), signed().abs() * sign
    contribution = (patches * weight).sum(1).numpy()
    truth = areas_of(Weighted(weight), patches, np.abs(contribution), chosen)
    reverse = areas_of(Weighted(weight), patches, 10 - np.abs(contribution), chosen)
    blurred = areas_of(Weighted(weight), patches, np.abs(contribution) + noise(12, 3)[:, 0].numpy(), chosen)
    for name in faithfulness.CURVES:
        for other in (truth[f"{name}_rolled"].T, truth[f"{name}_pixels"], reverse[name], blurred[name]):
            assert (truth[name] > other).all()
        assert (reverse[name] < reverse[f"{name}_rolled"].mean(1)).all()
    slides = np.repeat(range(4), 3)
    assert table_of(truth, slides)["verdict"] == "informative"
    assert (table_of(reverse, slides)[[f"{name}_high" for name in GAINS]] < 0).all()
    assert table_of(reverse, slides)["reason"] == "deletion and insertion"


def test_an_absolute_map_of_evidence_for_and_against_gains_where_the_score_hardly_changes(chosen):
    # Contributions of both signs that nearly add up to nothing: what is expected of the first pixels is their share of
    # the change. Where it is exactly 0, the distance |s - s(x)| would see the heatmap lose to random places.
    random = np.random.default_rng(0)
    contribution = random.standard_normal((400, SIDE, SIDE)) * random.exponential(size=(400, SIDE, SIDE)) ** 2
    contribution -= contribution.mean((1, 2), keepdims=True) * random.uniform(0.8, 1, (400, 1, 1))
    patches = torch.from_numpy(contribution).float()[:, None].repeat(1, 3, 1, 1) / 3
    areas = areas_of(Weighted(torch.ones(1, 3, SIDE, SIDE)), patches, np.abs(contribution), chosen)
    row = table_of(areas, np.arange(400))
    assert (row[list(GAINS)] > 0.1).all()
    assert row["verdict"] == "informative"
    assert 0.4 < row["deletion_rolled"] < 0.6


def test_a_heatmap_of_the_square_that_counts_is_told_from_one_of_another_square(chosen):
    patches = noise(12)
    right, wrong = np.zeros((2, 12, SIDE, SIDE))
    right[:, 2:6, 2:6] = wrong[:, 10:14, 10:14] = 1
    slides = np.repeat(range(4), 3)
    row = table_of(areas_of(Square(), patches, right, chosen), slides)
    assert (row["verdict"], row["reason"]) == ("informative", "")
    assert row["deletion"] > 0.85
    assert table_of(areas_of(Square(), patches, wrong, chosen), slides)["verdict"] == "uninformative"


def test_maps_at_random_places_pass_no_more_often_than_the_interval_says(chosen):
    # Every heatmap shows a square as the network uses it, at a place that has nothing to do with the network.
    chosen = chosen.model_copy(update={"steps": 4, "rolls": 1})
    random, runs, n = np.random.default_rng(0), 200, 24
    places = random.integers(0, SIDE, (runs * n, 2))
    square = np.zeros((SIDE, SIDE))
    square[2:6, 2:6] = 1
    heatmaps = np.stack([np.roll(square, tuple(place), (0, 1)) for place in places])
    areas = areas_of(Square(), noise(runs * n), heatmaps, chosen, size=2048)
    slides = np.repeat(range(12), 2)
    rows = [
        table_of({name: values[run::runs] for name, values in areas.items()}, slides, seed=run) for run in range(runs)
    ]
    for name in GAINS:
        low, high = (np.array([row[f"{name}_{end}"] for row in rows]) for end in ("low", "high"))
        assert 0.005 < np.mean(low > 0) < 0.06  # nominally 0.025
        assert 0.9 < np.mean((low < 0) & (high > 0)) < 0.99
        assert abs(np.mean([row[name] for row in rows])) < 0.01
    assert np.mean([row["verdict"] == "informative" for row in rows]) < 0.04  # both have to gain


def test_what_cannot_be_said_is_undefined_with_its_reason():
    def areas(n, change=2.0):
        rolled = np.full((n, 2), 0.5)
        both = {f"{name}{key}": np.full(n, 1.5) for name in faithfulness.CURVES for key in ("", "_pixels")}
        return {**both, "deletion_rolled": rolled, "insertion_rolled": rolled, "change": np.full(n, change)}

    assert table_of(areas(3), [0, 1, 2])[["verdict", "reason"]].tolist() == ["informative", ""]
    assert table_of(areas(3), [0, 0, 0])[["verdict", "reason"]].tolist() == ["undefined", "one slide"]
    assert table_of(areas(3, np.nan), [0, 1, 2])[["verdict", "reason"]].tolist() == ["undefined", "no patch"]
    assert table_of(areas(3, 0.0), [0, 1, 2])[["verdict", "reason"]].tolist() == ["undefined", "no change"]
    partly = areas(4)
    partly["insertion"][0] = partly["change"][1] = np.nan
    row = table_of(partly, [0, 0, 1, 2])
    assert row[["patches", "left_out", "slides", "verdict"]].tolist() == [2, 2, 2, "informative"]
    assert row[["change", "deletion", "deletion_rolled", "insertion_gain"]].tolist() == [2, 0.75, 0.25, 0.5]


def test_untrained_networks_stand_beside_and_are_not_counted():
    lost = dict.fromkeys(("change", "deletion", "insertion", "deletion_pixels", "insertion_pixels"), np.ones(4))
    lost |= dict.fromkeys(("deletion_rolled", "insertion_rolled"), np.full((4, 2), 2.0)) | {"slides": np.arange(4)}
    won = {**lost, "deletion": np.full(4, 3.0), "insertion": np.full(4, 3.0)}
    none = {**lost, "slides": np.zeros(4)}
    areas = {"a-1": won, "b-1": lost, "c-1": none, "a-untrained": lost, "b-untrained": won}
    tested = [(Network(*name.split("-"), "alexnet"), values) for name, values in areas.items()]
    table = faithfulness_table("lime", tested, 100, 0)
    assert table["verdict"].tolist() == ["informative", "uninformative", "undefined", "uninformative", "informative"]
    counts = {"networks": 3, "uninformative": 1, "undefined": 1, "untrained": 2, "untrained_informative": 1}
    assert count_verdicts(table) == {"lime": counts}
