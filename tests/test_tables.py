"""Tables of a run, from numbers that are known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pcam_agreement import intervals, tables
from pcam_agreement.agreement import MEASURES


@pytest.fixture
def networks(settings):
    return {name: settings.network[name] for name in ("resnet34", "densenet121", "resnet34_twin", "resnet34_untrained")}


def results(networks, patches=5, **change):
    count = len(list(combinations(networks, 2)))
    ious = np.tile(np.linspace(0.1, 0.6, count)[:, None], patches)
    flags = {name: np.zeros((len(networks), patches), bool) for name in ("constant", "nonfinite", "unconverged")}
    each = {name: np.ones((len(networks), patches)) for name in ("max", "sd", "gini", "area", "tied")}
    return {**{name: ious.copy() for name in MEASURES}, "null_iou": np.full_like(ious, 0.05), **flags, **each, **change}


def estimates(found, networks):
    slides = np.arange(found["iou"].shape[1])
    return intervals.estimate(found["iou"], found["null_iou"], slides, tables.ceilings(networks), 100, 0)


def table_of(method, networks, found=None):
    found = results(networks) if found is None else found
    return tables.agreement_table(method, found, networks, estimates(found, networks))


def test_pairs_are_floor_ceiling_or_trained(networks):
    table = table_of("lime", networks)
    kinds = {(row.network_a, row.network_b): row.kind for row in table.itertuples()}
    assert kinds["resnet34", "resnet34_twin"] == "ceiling"
    assert kinds["resnet34", "densenet121"] == kinds["densenet121", "resnet34_twin"] == "trained"
    assert [kind for pair, kind in kinds.items() if "resnet34_untrained" in pair] == ["floor"] * 3


def test_a_patch_without_a_map_is_left_out_of_the_mean_and_counted(networks):
    found = results(networks)
    for name in MEASURES:
        found[name][0, :2] = np.nan
        found[name][0, 2:] = (0.2, 0.3, 0.4)
    found["constant"][0, :2] = found["nonfinite"][0, 1] = True
    row = table_of("lime", networks, found).iloc[0]
    assert (row["patches"], row["iou"]) == (3, pytest.approx(0.3))
    own = tables.heatmap_table("lime", found, {name: {} for name in networks})
    assert own["constant"].tolist() == [2, 0, 0, 0]
    assert own["nonfinite"].tolist() == [1, 0, 0, 0]


def test_a_gap_is_that_of_architectures_and_twins_stand_for_one(networks):
    aurocs = dict(zip(networks, (0.9, 0.8, 0.96, 0.5), strict=True))
    pairs = table_of("lime", networks)
    (row,) = tables.gap_table(pairs, networks, aurocs).to_dict("records")
    assert (row["network_a"], row["network_b"], row["measure"]) == ("resnet34", "densenet121", "normalised")
    assert row["auroc_gap"] == pytest.approx((0.1 + 0.16) / 2)
    trained = pairs[pairs["kind"] == "trained"]
    assert row["agreement"] == pytest.approx(trained["normalised"].mean())
    pairs.loc[trained.index[0], "normalised"] = np.nan
    (row,) = tables.gap_table(pairs, networks, aurocs).to_dict("records")
    assert (row["measure"], row["agreement"]) == ("excess", pytest.approx(trained["excess"].mean()))
    assert tables.gap_test(pd.DataFrame([row]), 0)["p"] is None  # two architectures have one pair
