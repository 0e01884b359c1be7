"""Figures are drawn of any run, and say what they must say."""

import errno

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import made_up
from conftest import METHODS, recipe
from pcam_agreement.agreement.pairs import similar_order
from pcam_agreement.report.figures import pairs, panels, patches, trends

RUNS = {
    "five": ("resnet34", "densenet121", "alexnet", "resnet34_twin", "inception_v3_untrained"),
    "twins only": ("resnet34", "resnet34_twin"),
    "no floor": ("resnet34", "densenet121"),
}


TITLES = {name: name for name in METHODS}


def figures(run, chance=1 / 7):
    tables = run.tables
    order = similar_order(tables["agreement"], list(run.networks))
    return {
        "agreement": pairs.agreement_matrices(tables["agreement"], order, 0.25, chance, TITLES),
        "intervals": pairs.agreement_intervals(tables["agreement"], chance, TITLES),
        "normalised": pairs.normalised_intervals(tables["agreement"], TITLES),
        "curve": trends.curves(tables["curve"], TITLES),
        "strata": trends.strata_means(tables["strata"], TITLES),
        "gaps": trends.performance_gaps(tables["gaps"], run.tests, TITLES),
        "localisation": patches.localisation_bars(tables["localisation"], TITLES),
    }


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_all_figures_are_drawn_of_any_run(settings, tmp_path, name):
    run = made_up.make({network: recipe(settings, network) for network in RUNS[name]})
    for title, figure in figures(run).items():
        panels.save(figure, tmp_path / f"{title}.png", dpi=50)
        assert np.ptp(np.asarray(Image.open(tmp_path / f"{title}.png").convert("L"))) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_titles_and_legends_lie_inside_the_picture(settings, tmp_path, name):
    run = made_up.make({network: recipe(settings, network) for network in RUNS[name]})
    for title, figure in figures(run).items():
        panels.save(figure, tmp_path / f"{title}.png", dpi=100)
        texts = [figure._suptitle, *figure.legends, *(axis.title for axis in figure.axes)]
        for box in (text.get_window_extent() for text in texts if text):
            assert min(box.x0, box.y0) >= 0, title
            assert box.x1 <= figure.bbox.x1, title
            assert box.y1 <= figure.bbox.y1, title


def test_masks_of_different_areas_are_drawn_without_chance(settings, tmp_path):
    run = made_up.make({name: recipe(settings, name) for name in RUNS["five"]})
    run.tables["curve"][["kappa", "chance"]] = np.nan
    for title, figure in figures(run, np.nan).items():
        panels.save(figure, tmp_path / f"{title}.png", dpi=50)
        assert "nan" not in " ".join(words(figure))
    assert "random masks" not in " ".join(words(figures(run, np.nan)["agreement"]))


def test_a_cell_says_iou_interval_and_null(settings):
    run = made_up.make({name: recipe(settings, name) for name in RUNS["five"]}, ("lime",))
    said = words(figures(run)["agreement"])
    for pair in run.tables["agreement"].itertuples():
        assert f"{pair.iou:.2f}" in said
        assert f"{pair.iou_low:.2f}–{pair.iou_high:.2f}\nnull {pair.null:.2f}" in said


def test_an_undefined_pair_says_why(settings):
    run = made_up.make({name: recipe(settings, name) for name in RUNS["five"]}, ("lime",))
    said = words(figures(run)["normalised"])
    assert "densenet121 ~ alexnet" in said
    assert said.count("undefined: neither network was trained twice") == 1


def test_networks_that_agree_stand_beside_each_other(settings):
    names = list(RUNS["five"])
    run = made_up.make({name: recipe(settings, name) for name in names})
    order = similar_order(run.tables["agreement"], names)
    assert sorted(order) == sorted(names)
    assert abs(order.index("resnet34") - order.index("resnet34_twin")) == 1
    assert order.index("inception_v3_untrained") in (0, 4)


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
        def savefig(self, path, **_: object) -> None:
            path.write_bytes(b"its beginning")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as error:
        panels.save(TooLarge(), tmp_path / "figures" / "gaps.png", dpi=80)
    assert error.value.filename == str(tmp_path / "figures" / "gaps.png")
    assert not list((tmp_path / "figures").iterdir())
