"""Deletion and insertion against closed forms, and the gate against simulations whose truth is known."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.attribution.faithfulness.curves import areas, curves, ranking
from pcam_agreement.core.files import read_arrays
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import merge_chunks, write_chunk
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.pipeline import faithfulness as stage
from pcam_agreement.report import faithfulness
from pcam_agreement.report.faithfulness import count_verdicts, faithfulness_table

SIDE = 16
GAINS = ("deletion_gain", "insertion_gain")


class Weighted(nn.Module):
    """A weighted sum of the pixels: with a black fill, what each contributes is known."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


class Square(nn.Module):
    """A network that looks at rows and columns 2 to 5 and bends."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, patches):
        return torch.tanh(patches[:, :, 2:6, 2:6].mean((1, 2, 3)) * 3) - 1


@pytest.fixture
def chosen(settings):
    return settings.faithfulness.model_copy(update={"fill": "black", "steps": 8, "rolls": 3})


def noise(n, seed=0):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def signed(seed=1):
    """Weights of both signs, smooth and not of sum 0."""
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.3


def curves_of(network, patches, heatmaps, chosen, target="tumour", size=64, first=0):
    with torch.no_grad():
        score = make_score(network, network(patches), target, "logit")
    seeds = range(first, first + len(patches))
    return curves(score, patches, np.asarray(heatmaps, np.float16), seeds, chosen, Batch(size))


def areas_of(*arguments, reduce="absolute_of_sum", **options):
    return areas(curves_of(*arguments, **options), reduce)


def table_of(areas, slides, seed=0):
    found = {"network": {**areas, "slides": np.asarray(slides)}}
    return faithfulness_table("lime", found, ["network"], 400, seed).iloc[0]


def test_the_curves_of_a_linear_network_are_sums_of_what_its_pixels_contribute(chosen):
    patches, weight = noise(3), signed()
    contribution = (patches * weight).sum(1).numpy()
    found = curves_of(Weighted(weight), patches, np.abs(contribution), chosen)
    for row, parts in enumerate(contribution):
        # in float16, as heatmaps are kept
        ordered = parts.ravel()[np.argsort(-np.abs(parts).astype(np.float16).ravel(), kind="stable")]
        counts = np.arange(9) * SIDE * SIDE // 8
        gone = np.array([ordered[:count].sum() for count in counts])
        ties = np.abs(ordered).max() * 4  # pixels that tie in float16 may change sides
        np.testing.assert_allclose(found["deletion"][row], parts.sum() + 0.5 - gone, atol=ties)
        np.testing.assert_allclose(found["insertion"][row], 0.5 + gone, atol=ties)
    under = areas(found, "absolute_of_sum")
    np.testing.assert_allclose(under["change"], contribution.sum((1, 2)), rtol=1e-4)
    # Of a linear network the two say the same: what a pixel contributes does not depend on the others.
    np.testing.assert_allclose(under["deletion"], under["insertion"], rtol=1e-4)


def test_a_straight_line_has_half_of_the_change_and_a_step_has_all_of_it():
    line, step = np.linspace(5, -3, 9), np.array([5.0] + [-3.0] * 8)
    under = areas(
        {"deletion": np.stack([line, step, -line]), "insertion": np.stack([line[::-1]] * 3)}, "max_of_absolute"
    )
    assert under["change"].tolist() == [8, 8, -8]
    np.testing.assert_allclose(under["deletion"], [4, 8 - 0.5, 4])  # the step has the width of one share
    np.testing.assert_allclose(under["insertion"], [4, 4, -4])


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


@pytest.mark.parametrize("sign", [1, -1])
def test_evidence_for_the_class_gains_whichever_way_the_score_goes(chosen, sign):
    patches, weight = noise(12), signed()
    weight = weight - weight.mean() + 0.1 * sign  # the sum of what pixels contribute is above or below 0
    evidence = (patches * weight).sum(1).clamp(min=0)
    areas = areas_of(Weighted(weight), patches, evidence, chosen, reduce="positive_of_sum")
    assert (np.sign(areas["change"]) == sign).all()
    for name in faithfulness.CURVES:
        assert (areas[name] > areas[f"{name}_rolled"].max(1)).all()
    absolute = areas_of(Weighted(weight), patches, evidence, chosen)
    assert (absolute["deletion"] * sign > 0).all()


def test_an_absolute_map_of_evidence_for_and_against_gains_where_the_score_hardly_changes(chosen):
    # Contributions of both signs that nearly add up to nothing: what is expected of the first pixels is their share of
    # the change. Where it is exactly 0, the distance |s - s(x)| would see the heatmap lose to random places.
    draw = np.random.default_rng(0)
    contribution = draw.standard_normal((400, SIDE, SIDE)) * draw.exponential(size=(400, SIDE, SIDE)) ** 2
    contribution -= contribution.mean((1, 2), keepdims=True) * draw.uniform(0.8, 1, (400, 1, 1))
    patches = torch.from_numpy(contribution).float()[:, None].repeat(1, 3, 1, 1) / 3
    areas = areas_of(Weighted(torch.ones(1, 3, SIDE, SIDE)), patches, np.abs(contribution), chosen)
    row = table_of(areas, np.arange(400))
    assert (row[list(GAINS)] > 0.1).all()
    assert row["verdict"] == "informative"
    assert 0.4 < row["deletion_rolled"] < 0.6


def test_a_network_that_looks_at_one_square_is_told_from_one_that_is_said_to_look_elsewhere(chosen):
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
    draw, runs, n = np.random.default_rng(0), 200, 24
    places = draw.integers(0, SIDE, (runs * n, 2))
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


def test_batches_do_not_change_the_curves_and_the_same_seeds_give_the_same_bytes(patches, settings, resnet):
    chosen = settings.faithfulness.model_copy(update={"steps": 3})
    heatmaps = np.random.default_rng(0).exponential(size=(4, 96, 96))
    many, again = (curves_of(resnet, patches[:4], heatmaps, chosen) for _ in range(2))
    assert {name: values.tobytes() for name, values in many.items()} == {
        name: values.tobytes() for name, values in again.items()
    }
    for row in range(4):
        one = curves_of(resnet, patches[row : row + 1], heatmaps[row : row + 1], chosen, size=1, first=row)
        for name, values in one.items():
            np.testing.assert_allclose(values[0], many[name][row], rtol=1e-4, atol=1e-5)
    assert len(np.unique(many["deletion"][:, 1])) == 4


def test_the_score_of_the_normal_class_has_the_same_areas(chosen):
    patches, weight = noise(3), -signed().abs()
    heatmaps = (patches * weight).sum(1).abs()
    tumour, predicted = (
        areas_of(Weighted(weight), patches, heatmaps, chosen, target=t) for t in ("tumour", "predicted")
    )
    np.testing.assert_allclose(tumour["change"], -predicted["change"], rtol=1e-5)
    for name in ("deletion", "insertion_rolled"):
        np.testing.assert_allclose(tumour[name], predicted[name], rtol=1e-4)


def test_random_places_and_the_order_of_ties_are_shared_by_all_networks_and_methods(chosen):
    # A square that the network sees one pixel of: curves say which pixels went first.
    patches, one = noise(1), torch.zeros(1, 3, SIDE, SIDE)
    found = []
    for height in (1, 5):  # two maps of one order
        one[0, 0] = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
        heatmap = np.zeros((1, SIDE, SIDE))
        heatmap[0, :4] = height
        found.append(curves_of(Weighted(one), patches, heatmap, chosen))
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_pixels_that_tie_go_in_random_order_and_never_before_higher_ones():
    heatmap = np.repeat([2.0, 3.0, 1.0, 0.0], 64).reshape(SIDE, SIDE)
    orders = np.stack([ranking(heatmap, np.random.default_rng(seed)) for seed in range(200)])
    for level, first in ((3.0, 0), (2.0, 64), (1.0, 128), (0.0, 192)):
        own = orders[:, heatmap == level]
        assert (np.sort(own, 1) == np.arange(first, first + 64)).all()
        np.testing.assert_allclose(own.mean(0), first + 31.5, atol=7)  # no pixel is preferred


def test_what_cannot_be_said_is_undefined_with_its_reason():
    def areas(n, change=2.0):
        rolled = np.full((n, 2), 0.5)
        own = {f"{name}{key}": np.full(n, 1.5) for name in faithfulness.CURVES for key in ("", "_pixels")}
        return {**own, "deletion_rolled": rolled, "insertion_rolled": rolled, "change": np.full(n, change)}

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
    found = {"a": won, "b": lost, "c": none, "untrained": lost}
    table = faithfulness_table("lime", found, ["a", "b", "c"], 100, 0)
    assert table["verdict"].tolist() == ["informative", "uninformative", "undefined", "uninformative"]
    assert count_verdicts(table) == {"lime": {"networks": 3, "uninformative": 1, "undefined": 1}}


@pytest.mark.parametrize("constant", [[2], range(7)])
def test_a_constant_heatmap_has_no_curves_and_the_stage_writes_the_same_bytes_twice(
    dataset, raw, resnet, tmp_path, constant
):
    raw["explain"].update(batch_size=5, chunk=2)
    raw["faithfulness"].update(patches=4, steps=2, rolls=2)
    YAML().dump(raw, tmp_path / "params.yaml")
    save_checkpoint(resnet, tmp_path / "network.safetensors")
    heatmaps = np.random.default_rng(0).exponential(size=(7, 96, 96)).astype(np.float16)
    flags = {name: np.isin(np.arange(7), list(constant)) for name in ("constant", "nonfinite")}
    chunk = {"index": np.arange(3, 17, 2), "heatmaps": heatmaps, "logits": np.zeros(7, np.float32), **flags}
    write_chunk(tmp_path / "chunk.npz", chunk)
    stated = {"precision": "32", "reduce": "absolute_of_sum"}
    merge_chunks([tmp_path / "chunk.npz"], tmp_path / "heatmaps.h5", 7, {}, stated)
    files = {"checkpoint": "network.safetensors", "heatmaps": "heatmaps.h5", "params": "params.yaml"}
    given = Namespace(patches=dataset, **{name: tmp_path / file for name, file in files.items()})
    written = []
    for name in ("one.h5", "again.h5"):
        given.faithfulness = tmp_path / name
        stage.main(given)
        written.append(given.faithfulness.read_bytes())
    assert written[0] == written[1]
    found = read_arrays(given.faithfulness)
    assert found["index"].tolist() == [3, 7, 11, 15]  # evenly spaced
    lost = np.isin([0, 2, 4, 6], list(constant))
    assert found["deletion_rolled_curve"].shape == (4, 2, 3)
    for name in found.keys() - {"index", "slides"}:
        assert (np.isfinite(found[name]).reshape(4, -1).all(1) == ~lost).all(), name
    row = table_of(found, read_split(dataset, "test").meta["wsi"].to_numpy()[found["index"]])
    assert row[["patches", "left_out", "verdict"]].tolist() == [(~lost).sum(), lost.sum(), "undefined"]
    assert row["reason"] == ("no patch" if lost.all() else "one slide")
