"""Tables of a run, from numbers that are known."""

import numpy as np
import pandas as pd
import pytest

from pcam_agreement.agreement.pairs import pair_kind, shown_order
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import tables
from pcam_agreement.report.shares import averaged
from report_runs import run  # noqa: F401  fixture

NETWORKS = [Network(recipe, training, recipe) for recipe in ("a", "b") for training in ("1", "2", "untrained")]


def test_pairs_are_of_two_recipes_of_one_or_with_an_untrained_network():
    a, again, untrained, b = NETWORKS[:4]
    assert pair_kind(a, again) == "within"
    assert pair_kind(a, b) == pair_kind(again, b) == "between"
    assert pair_kind(a, untrained) == pair_kind(untrained, b) == pair_kind(untrained, NETWORKS[5]) == "untrained"
    names = [network.name for network in shown_order(NETWORKS)]
    assert names == ["a-1", "a-2", "b-1", "b-2", "a-untrained", "b-untrained"]


def test_a_patch_without_a_map_is_left_out_of_the_mean_and_counted(run):  # noqa: F811
    pairs = run.table("agreement").set_index(["method", "network_a"])
    constant = run.table("heatmaps").set_index(["method", "network"])["constant"]
    first = f"{run.raw['recipes'][0]}-1"
    for method in run.raw["methods"]:
        assert (pairs.loc[(method, first), "patches"] == 19).all()  # of 20, one with a constant map
        assert constant[method, first] == 1
        assert constant[method].sum() == 1


def test_means_are_over_the_pairs_of_a_kind(run):  # noqa: F811
    pairs, means = run.table("agreement"), run.table("means").set_index(["method", "kind"])
    for (method, kind), rows in pairs.groupby(["method", "kind"]):
        row = means.loc[(method, kind)]
        assert row["pairs"] == len(rows)
        for name in ("iou", "null", "excess", "kappa", "weighted_iou", "spearman", "ssim", "ssim_null", "correlation"):
            assert row[name] == pytest.approx(rows[name].mean(), rel=1e-4)
        assert row["iou_low"] < row["iou"] < row["iou_high"]
    assert means["pairs"].tolist() == [27, 9, 30] * 2


def test_the_curve_is_a_mean_over_patches_at_each_fraction():
    pairs = pd.DataFrame(
        [("lime", "a-1", "b-1", "a", "b", "between")] * 6,
        columns=["method", "network_a", "network_b", "recipe_a", "recipe_b", "kind"],
    )
    ious = np.stack([np.full((6, 4), 0.5 / 1.5), np.full((6, 4), 1.0)])  # chance for one half; then equal masks
    ious[1, 2, :3], ious[1, 3] = np.nan, np.nan
    curve = tables.curve_table(pairs, np.array([0.5, 0.1]), ious)
    half, tenth = (curve[curve["fraction"] == fraction] for fraction in (0.5, 0.1))
    np.testing.assert_allclose(half["kappa"], 0, atol=1e-12)
    np.testing.assert_allclose(half["iou"], half["chance"])
    assert tenth["kappa"].tolist() == pytest.approx([1, 1, 1, np.nan, 1, 1], nan_ok=True)
    assert tenth["chance"].iloc[0] == pytest.approx(0.1 / 1.9)
    assert tables.curve_table(pairs, np.array([0.5]), ious[:1], "all")[["kappa", "chance"]].isna().all(axis=None)


def test_the_reliability_of_a_mean_is_that_of_spearman_and_brown(run):  # noqa: F811
    assert averaged(0.5, 4) == pytest.approx(0.8)
    assert np.isnan(averaged(np.nan, 2))
    table = run.table("reliability").set_index(["method", "recipe", "trainings"])
    for method in run.raw["methods"]:
        for recipe in ("all", *run.raw["recipes"]):
            rows = table.loc[(method, recipe)]
            rho = rows["value"][1]
            assert rows["value"][10] == pytest.approx(10 * rho / (1 + 9 * rho), rel=1e-4)
            assert rows["needed"][1] == pytest.approx(4 * (1 / rho - 1), rel=1e-4)


def test_localisation_stands_beside_the_consensus_and_two_maps_that_explain_nothing(run):  # noqa: F811
    table = run.table("localisation").set_index(["method", "region", "network"])
    for method in run.raw["methods"]:
        centre = table.loc[(method, "centre")]
        assert len(centre) == 12 + len(tables.BASELINES)
        assert centre.loc["random map", ["mass", "rank_accuracy", "pointing"]].tolist() == pytest.approx(
            [1 / 9] * 3, 1e-4
        )
        assert 0 < centre.loc["consensus", "rank_accuracy"] < centre.loc["centre", "rank_accuracy"]
        assert np.isnan(centre.loc["consensus", "mass"])
