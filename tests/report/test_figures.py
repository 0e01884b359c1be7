"""Figures are drawn of any run, and say what they must say."""

import errno

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import gaps
from pcam_agreement.report.figures import catalogue, pairs, panels, patches, recipes, shares, trends
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
    assert f"LIME\n5 architectures: rho {test['rho']:.2f}, p {test['p']:.2f}" in said
    assert "a ~ b" in said


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
