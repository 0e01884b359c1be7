"""Figures are drawn of any run, and say what they must say."""

import errno

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import gaps
from pcam_agreement.report.figures import catalogue, faithfulness, pairs, panels, patches, recipes, shares, trends
from pcam_agreement.report.shares import Of
from pcam_agreement.report.tables import BASELINES
from report_runs import run  # noqa: F401  fixture

TITLES = {"saliency": "Saliency", "lime": "LIME"}
NAMES = ("shares", "reliability", "recipes", "agreement", "curve", "strata", "faithfulness", "localisation", "gaps")


def of_recipes(count: int) -> list[Network]:
    """Three trainings of each recipe and an untrained network."""
    names = [f"a_longer_name_{recipe}" for recipe in range(count)]
    return [Network(name, training, "") for name in names for training in ("1", "2", "3", "untrained")]


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def inside(figure, path) -> bool:
    """Whether titles, legends and the names at the axes lie inside the picture."""
    panels.save(figure, path, dpi=100)
    texts = [figure._suptitle, *figure.legends]
    for axis in figure.axes:
        texts.append(axis.title)
        for side, (low, high) in ((axis.xaxis, sorted(axis.get_xlim())), (axis.yaxis, sorted(axis.get_ylim()))):
            ticks = zip(side.get_ticklocs(), side.get_ticklabels(), strict=False)  # none where they are hidden
            texts += [label for place, label in ticks if low <= place <= high and label.get_text()]
    boxes = [text.get_window_extent() for text in texts if text and text.get_visible()]
    across, up = figure.bbox.x1, figure.bbox.y1
    return all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= across + 1 and box.y1 <= up + 1 for box in boxes)


def test_titles_legends_and_names_lie_inside_the_picture(run, tmp_path):  # noqa: F811
    tables = {name: run.table(name) for name in NAMES if name != "gaps"} | {"gaps": pd.DataFrame()}
    order = [Network(recipe, str(training), "") for training in (1, 2, 3) for recipe in run.raw["recipes"]]
    order += [Network(recipe, "untrained", "") for recipe in run.raw["recipes"]]
    drawn = catalogue.figures(tables, {}, order, Of(2.0, 0.25), TITLES, "recipe")
    assert set(drawn) == {*NAMES, "scale"} - {"gaps"}
    for name, figure in drawn.items():
        assert inside(figure, tmp_path / f"{name}.png"), name
        assert "nan" not in " ".join(words(figure)), name


@pytest.mark.slow
@pytest.mark.parametrize("count", [32, 80])
def test_the_matrix_holds_any_number_of_networks(count, tmp_path):
    networks = of_recipes(count // 4)
    rows = [(a.name, b.name, 0.5) for place, a in enumerate(networks) for b in networks[place + 1 :]]
    table = pd.DataFrame(rows, columns=["network_a", "network_b", "correlation"]).assign(method="lime")
    figure = pairs.correlations(table, networks, {"lime": "LIME"}, "recipe")
    assert inside(figure, tmp_path / "matrix.png")
    assert ("a_longer_name_3-2" in words(figure)) == (count == 32)


@pytest.mark.parametrize("count", [8, 20])
def test_of_many_recipes_a_pair_has_a_colour_and_its_number_is_in_the_table(count, tmp_path):
    names = [f"a_longer_name_{recipe}" for recipe in range(count)]
    rows = [(a, b, 0.5, 0.25, 0.75) for place, a in enumerate(names) for b in names[place + 1 :]]
    table = pd.DataFrame(rows, columns=["recipe_a", "recipe_b", "value", "low", "high"]).assign(method="lime")
    figure = recipes.agreement(table, names, {"lime": "LIME"}, "recipe")
    assert inside(figure, tmp_path / "recipes.png")
    assert ("0.50" in words(figure)) == (count == 8)


def test_of_many_networks_a_bar_is_a_recipe_and_a_line_its_trainings(tmp_path):
    networks = of_recipes(20)
    rows = [(network.name, network.recipe, network.training, 0.1 * (row % 4)) for row, network in enumerate(networks)]
    rows += [(name, "", "", 0.11) for name in BASELINES]
    table = pd.DataFrame(rows, columns=["network", "recipe", "training", "rank_accuracy"])
    figure = patches.localisation_bars(table.assign(method="lime", region="centre"), {"lime": "LIME"})
    assert inside(figure, tmp_path / "localisation.png")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.1, 0.3] * 20)  # trainings 0, 0.1 and 0.2, and the untrained one
    (lines,) = [lines for lines in figure.axes[0].collections]
    assert [line[:, 0].tolist() for line in lines.get_segments()[:2]] == [
        [0.0, pytest.approx(0.2)],
        [pytest.approx(0.3)] * 2,
    ]


def test_a_share_below_0_is_printed_and_has_no_width():
    values = {"common": 0.35, "input": np.nan, "learned": np.nan, "recipe": -0.06, "training": 0.71, "noise": np.nan}
    table = pd.DataFrame(
        [
            {"method": "lime", "share": name, "value": value, "low": value - 0.1, "high": value + 0.1, "reason": ""}
            for name, value in values.items()
        ]
    )
    figure = shares.bars(table, TITLES, "architecture")
    assert {"35 %", "-6 %", "71 %", "-16 to 4"} <= set(words(figure))
    assert sorted(round(bar.get_width(), 6) for bar in figure.axes[0].patches) == [0, 0.35, 0.71]


def test_every_share_has_a_look_of_its_own_and_a_common_share_that_is_not_divided_too():
    parts = {"common": 0.3, "input": 0.1, "learned": 0.2, "recipe": 0.2, "training": 0.3, "noise": 0.2}
    table = pd.DataFrame(
        [
            {"method": method, "share": name, "value": value, "low": value, "high": value, "reason": ""}
            for method, undivided in (("lime", False), ("saliency", True))
            for name, value in (parts | ({"input": np.nan, "learned": np.nan} if undivided else {})).items()
        ]
    )
    bars = shares.bars(table, TITLES, "architecture").axes[0].patches
    looks = [(bar.get_facecolor(), bar.get_hatch()) for bar in bars]
    assert len(looks) == 9 and len(set(looks)) == len(parts)


def test_an_interval_that_begins_below_0_is_drawn_beside_the_names_of_methods():
    values = {"common": 0.01, "input": np.nan, "learned": np.nan, "recipe": 0.05, "training": 0.94, "noise": np.nan}
    table = pd.DataFrame(
        [
            {"method": "lime", "share": name, "value": value, "low": value - 0.1, "high": value + 0.1, "reason": ""}
            for name, value in values.items()
        ]
    )
    axis = shares.bars(table, TITLES, "architecture").axes[0]
    assert axis.get_xlim()[0] <= min(line.get_xdata()[0] for line in axis.lines) == pytest.approx(-0.09)


def test_gaps_are_drawn_with_their_test():
    letters = "abcde"
    table = pd.DataFrame(
        [
            ("lime", a, b, 0.01 * (i + j), 0.9 - 0.1 * j, 0.5, 1.0)
            for i, a in enumerate(letters)
            for j, b in enumerate(letters)
            if i < j
        ],
        columns=["method", "architecture_a", "architecture_b", "auroc_gap", "agreement", "low", "high"],
    )
    test = gaps.gap_test(table, 0)
    said = words(trends.performance_gaps(table, {"lime": test}, TITLES))
    assert f"LIME\n5 architectures: rank correlation {test['rho']:.2f} (p = {test['p']:.2f})" in said
    assert "a ~ b" in said and panels.BEYOND not in said


@pytest.mark.parametrize("values", [(0.5, 0.6, 0.7), (5.0, 6.0, 9.0), (-3.0, -4.0, -5.0), (np.nan,) * 3])
def test_no_agreement_is_on_the_axis_of_gaps_wherever_the_points_are(values):
    table = pd.DataFrame(
        [("lime", "a", b, 0.1, value, value, value) for b, value in zip("bcd", values, strict=True)],
        columns=["method", "architecture_a", "architecture_b", "auroc_gap", "agreement", "low", "high"],
    )
    (axis,) = trends.performance_gaps(table, {"lime": {"architectures": 3, "rho": None}}, TITLES).axes
    low, high = axis.get_ylim()
    assert -1 <= low < 0 < high <= 2


def test_a_few_values_that_are_divided_by_next_to_nothing_do_not_press_the_others_together(tmp_path):
    table = pd.DataFrame(
        [("lime", "a", "b", gap, value, value - 0.2, value + 0.2) for gap, value in ((0.1, 0.5), (0.2, 40), (0.3, -7))],
        columns=["method", "architecture_a", "architecture_b", "auroc_gap", "agreement", "low", "high"],
    )
    figure = trends.performance_gaps(table, {"lime": {"architectures": 3, "rho": None}}, TITLES)
    assert inside(figure, tmp_path / "gaps.png")
    (axis,) = figure.axes
    assert "an A is undefined" in figure.get_suptitle()
    assert axis.title.get_window_extent().width < axis.bbox.width
    assert axis.get_ylim() == (-1, 2)
    assert axis.bbox.height > 0.5 * figure.bbox.height  # there is room for it
    ends = {line.get_marker(): line.get_xydata().tolist() for line in axis.lines if line.get_marker() in "v^"}
    assert ends == {"v": [[0.3, -1]], "^": [[0.2, 2]]}
    assert panels.BEYOND in figure.get_suptitle()
    named = {text.get_text(): text for text in axis.texts}
    assert set(named) == {"a ~ b"} and len(axis.texts) == 3
    for text in axis.texts:  # matplotlib draws none whose point lies outside
        assert -1 <= text.xy[1] <= 2


def test_every_column_of_panels_has_its_numbers_and_untrained_networks_are_grey_in_every_row(tmp_path):
    methods = [f"method_{number}" for number in range(5)]
    rows = [
        {"method": method, "network": network, "trained": network == "a-1"}
        | {f"{name}_gain{end}": value for name in faithfulness.COLOURS for end, value in ends.items()}
        for method in methods
        for network, ends in (
            ("a-1", {"": 0.3, "_low": 0.1, "_high": 90.0}),
            ("a-untrained", {"": -9.0, "_low": -10.0, "_high": -8.0}),
        )
    ]
    figure = faithfulness.gains(pd.DataFrame(rows), dict(zip(methods, methods, strict=True)))
    assert inside(figure, tmp_path / "faithfulness.png")
    axes = figure.axes[: len(methods)]
    lowest = [axis for axis in axes if any(label.get_text() for label in axis.get_xticklabels())]
    assert lowest == axes[2:]
    for first in (axes[0], axes[3]):
        assert [label.get_color() for label in first.get_yticklabels()] == ["black", "#808080"]
    assert axes[0].get_xlim()[0] == -1 and axes[0].get_xlim()[1] == 2
    assert panels.BEYOND in figure.get_suptitle().replace("\n", " ")


def test_an_axis_that_panels_share_and_on_which_nothing_is_drawn_is_not_1e_17_wide():
    methods = [f"method_{number}" for number in range(5)]
    titles = dict(zip(methods, methods, strict=True))
    nothing = [f"{name}_gain{end}" for name in faithfulness.COLOURS for end in ("", "_low", "_high")]
    gains = pd.DataFrame({"method": methods}).assign(network="a-1", trained=True, **dict.fromkeys(nothing, np.nan))
    nothing = ["excess", "excess_low", "excess_high"]
    strata = pd.DataFrame({"method": methods}).assign(stratum="tumour", kind="between", patches=4)
    strata = strata.assign(**dict.fromkeys(nothing, np.nan))
    for figure in (faithfulness.gains(gains, titles), trends.strata_means(strata, titles, "recipe")):
        low, high = figure.axes[0].get_xlim()
        assert low < 0 and high - low > 0.1


def test_reliabilities_that_are_left_out_of_the_figure_are_said(tmp_path):
    table = pd.DataFrame(
        [
            ("lime", recipe, n, value / n, value, value, 5.0, 4.0, 6.0, "")
            for recipe, value in (("a", 0.5), ("all", -0.9))
            for n in (1, 2)
        ],
        columns=[
            "method",
            "recipe",
            "trainings",
            "value",
            "low",
            "high",
            "needed",
            "needed_low",
            "needed_high",
            "reason",
        ],
    )
    figure = recipes.reliability(table, {"lime": "LIME"}, "recipe")
    assert figure.axes[0].get_ylim()[0] == recipes.LOWEST
    assert f"values below {recipes.LOWEST} are not shown" in figure.get_suptitle()


def test_one_recipe_has_no_pair_and_so_none_that_is_undefined():
    table = pd.DataFrame(columns=["method", "recipe_a", "recipe_b", "value", "low", "high"])
    for order, pink in ((["a"], False), (["a", "b", "c"], True)):
        figure = recipes.agreement(table, order, {"lime": "LIME"}, "recipe")
        assert ("pink" in figure.get_suptitle()) == pink
        assert ("one recipe only" in words(figure)) != pink


def test_pairs_without_a_value_have_a_colour_of_their_own_and_those_of_a_network_with_itself_none():
    networks = of_recipes(2)
    rows = [(a.name, b.name, 0.5) for place, a in enumerate(networks) for b in networks[place + 1 :]]
    table = pd.DataFrame(rows, columns=["network_a", "network_b", "correlation"]).assign(method="lime")
    whole = pairs.correlations(table, networks, {"lime": "LIME"}, "recipe")
    table.loc[table["network_a"] == networks[0].name, "correlation"] = np.nan
    some = pairs.correlations(table, networks, {"lime": "LIME"}, "recipe")
    assert [len(figure.axes[0].images) for figure in (whole, some)] == [1, 2]
    coloured = np.argwhere(np.isfinite(some.axes[0].images[1].get_array().filled(np.nan))).tolist()
    assert coloured == [[0, row] for row in range(1, 8)] + [[row, 0] for row in range(1, 8)]
    assert ["pink" in figure.get_suptitle() for figure in (whole, some)] == [False, True]


def test_the_gallery_is_small_on_disk_and_the_same_again(tmp_path):
    random = np.random.default_rng(0)
    tissue = random.integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)  # does not compress at all
    heatmaps = random.random((2, 4, 96, 96)).astype(np.float32)
    found = []
    for name in ("a.png", "b.png"):
        ious = np.array([0.1, 0.2, 0.8, 0.9])
        figure = patches.gallery(tissue, heatmaps, (heatmaps > 0.75).astype(float), ious, ("one", "two"), "lime")
        panels.save(figure, tmp_path / name, dpi=80, colours=256)
        found.append((tmp_path / name).read_bytes())
        assert {"lowest\nIoU 0.10", "highest\nIoU 0.90"} <= set(words(figure))
    assert found[0] == found[1]
    assert len(found[0]) < 2**19


def test_a_figure_that_does_not_fit_on_the_disk_is_named_and_leaves_nothing(tmp_path):
    class TooLarge(Figure):
        def draw(self, renderer) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as error:
        panels.save(TooLarge(), tmp_path / "figures" / "gaps.png", dpi=80)
    assert error.value.filename == str(tmp_path / "figures" / "gaps.png")
    assert not list((tmp_path / "figures").iterdir())
