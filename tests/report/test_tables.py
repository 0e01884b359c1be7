"""Tables of a run, from numbers that are known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from conftest import recipe
from pcam_agreement.agreement.measures import MEASURES
from pcam_agreement.agreement.pairs import ceilings
from pcam_agreement.report import bootstrap, tables


@pytest.fixture
def networks(settings):
    return {name: recipe(settings, name) for name in ("resnet34", "densenet121", "resnet34_twin", "resnet34_untrained")}


def results(networks, patches=5, **change):
    count = len(list(combinations(networks, 2)))
    ious = np.tile(np.linspace(0.1, 0.6, count)[:, None], patches)
    flags = {name: np.zeros((len(networks), patches), bool) for name in ("constant", "nonfinite", "unconverged")}
    each = {name: np.ones((len(networks), patches)) for name in ("max", "sd", "gini", "area", "tied", "repeat_iou")}
    of_patches = {"null_iou": np.full_like(ious, 0.05), "labels": np.zeros(patches), "slides": np.arange(patches)}
    return {**{name: ious.copy() for name in MEASURES}, **of_patches, **flags, **each, **change}


def estimates(found, networks):
    return bootstrap.estimate(found, ceilings(networks), 100, 0)


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
    own = tables.heatmap_table("lime", found, {name: {} for name in networks}, {"forward": 0, "gradient": 1})
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
    slower = {**networks, "resnet34_twin": {**networks["resnet34_twin"], **{"lr": 1e-5}}}
    (row,) = tables.gap_table(table_of("lime", slower), slower, aurocs).to_dict("records")
    assert (row["network_a"], row["network_b"], row["auroc_gap"]) == ("resnet34", "densenet121", pytest.approx(0.13))


def test_the_curve_is_a_mean_over_patches_at_each_fraction(networks):
    pairs = table_of("lime", networks)
    ious = np.stack([np.full((6, 4), 0.5 / 1.5), np.full((6, 4), 1.0)])  # chance for one half; then equal masks
    ious[1, 2, :3], ious[1, 3] = np.nan, np.nan
    curve = tables.curve_table(pairs, np.array([0.5, 0.1]), ious)
    half, tenth = (curve[curve["fraction"] == fraction] for fraction in (0.5, 0.1))
    np.testing.assert_allclose(half["kappa"], 0, atol=1e-12)
    np.testing.assert_allclose(half["iou"], half["chance"])
    assert tenth["kappa"].tolist() == pytest.approx([1, 1, 1, np.nan, 1, 1], nan_ok=True)
    assert tenth["chance"].iloc[0] == pytest.approx(0.1 / 1.9)
    assert curve["kind"].tolist() == [*pairs["kind"]] * 2
    assert tables.curve_table(pairs, np.array([0.5]), ious[:1], "all")[["kappa", "chance"]].isna().all(axis=None)


def test_what_lies_above_the_floor_is_the_excess_beyond_that_of_untrained_networks(networks):
    found = results(networks)
    found["null_iou"] += np.random.default_rng(0).normal(0, 0.01, found["null_iou"].shape)
    table = table_of("lime", networks, found)
    floor = table.loc[table["kind"] == "floor", "excess"].mean()
    np.testing.assert_allclose(table["above_floor"], table["excess"] - floor)
    for name in ("excess", "above_floor"):
        assert (table[f"{name}_band_low"] <= table[f"{name}_low"]).all()
        assert (table[f"{name}_high"] <= table[f"{name}_band_high"]).all()
    trained_only = {name: networks[name] for name in ("resnet34", "densenet121")}
    assert table_of("lime", trained_only)["above_floor"].isna().all()
