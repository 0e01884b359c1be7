"""Deletion and insertion curves and their areas against closed forms."""

import numpy as np
import pytest
import torch

from deletion import FEW, SIDE, Weighted, areas_of, curves_of, noise, signed
from pcam_agreement.attribution.faithfulness.curves import areas, ranking


@pytest.fixture
def chosen(settings):
    return settings.faithfulness.model_copy(update=FEW)


def test_the_curves_of_a_linear_network_are_sums_of_what_its_pixels_contribute(chosen):
    patches, weight = noise(3), signed()
    contribution = (patches * weight).sum(1).numpy()
    scores = curves_of(Weighted(weight), patches, np.abs(contribution), chosen)
    for row, values in enumerate(contribution):
        # in float16, as heatmaps are kept
        ordered = values.ravel()[np.argsort(-np.abs(values).astype(np.float16).ravel(), kind="stable")]
        counts = np.arange(9) * SIDE * SIDE // 8
        gone = np.array([ordered[:count].sum() for count in counts])
        ties = np.abs(ordered).max() * 4  # pixels that tie in float16 may change sides
        np.testing.assert_allclose(scores["deletion"][row], values.sum() + 0.5 - gone, atol=ties)
        np.testing.assert_allclose(scores["insertion"][row], 0.5 + gone, atol=ties)
    under = areas(scores, "absolute_of_sum")
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
def test_evidence_for_the_class_gains_whichever_way_the_score_goes(chosen, sign):
    patches, weight = noise(12), signed()
    weight = weight - weight.mean() + 0.1 * sign  # the sum of what pixels contribute is above or below 0
    evidence = (patches * weight).sum(1).clamp(min=0)
    areas = areas_of(Weighted(weight), patches, evidence, chosen, reduce="positive_of_sum")
    assert (np.sign(areas["change"]) == sign).all()
    for name in ("deletion", "insertion"):
        assert (areas[name] > areas[f"{name}_rolled"].max(1)).all()
    absolute = areas_of(Weighted(weight), patches, evidence, chosen)
    assert (absolute["deletion"] * sign > 0).all()


def test_batches_do_not_change_the_curves_and_the_same_seeds_give_the_same_bytes(patches, settings, resnet):
    chosen = settings.faithfulness.model_copy(update={"steps": 3})
    heatmaps = np.random.default_rng(0).exponential(size=(4, 96, 96))
    many, again = (curves_of(resnet, patches[:4], heatmaps, chosen) for _ in range(2))
    assert {name: values.tobytes() for name, values in many.items()} == {
        name: values.tobytes() for name, values in again.items()
    }
    for row in range(4):
        alone = curves_of(resnet, patches[row : row + 1], heatmaps[row : row + 1], chosen, size=1, first=row)
        for name, values in alone.items():
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
    patches, weight = noise(1), torch.zeros(1, 3, SIDE, SIDE)
    results = []
    for height in (1, 5):  # two maps of one order
        weight[0, 0] = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
        heatmap = np.zeros((1, SIDE, SIDE))
        heatmap[0, :4] = height
        results.append(curves_of(Weighted(weight), patches, heatmap, chosen))
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_pixels_that_tie_go_in_random_order_and_never_before_higher_ones():
    heatmap = np.repeat([2.0, 3.0, 1.0, 0.0], 64).reshape(SIDE, SIDE)
    orders = np.stack([ranking(heatmap, np.random.default_rng(seed)) for seed in range(200)])
    for level, first in ((3.0, 0), (2.0, 64), (1.0, 128), (0.0, 192)):
        places = orders[:, heatmap == level]
        assert (np.sort(places, 1) == np.arange(first, first + 64)).all()
        np.testing.assert_allclose(places.mean(0), first + 31.5, atol=7)  # no pixel is preferred
