"""The atlas in a real browser: what it shows is what is in the files, in every view, by mouse, keyboard and link."""

import json
import math
import re
import shutil
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import made_up_run
from atlas_runs import METHODS, RECIPES, both, other, run, runs  # noqa: F401  fixtures
from pcam_agreement.atlas import page
from pcam_agreement.core.files import read_arrays, read_json, write_json, write_table
from pcam_agreement.data.pcam import read_split
from pcam_agreement.heatmaps.file import open_heatmaps
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.report.figures.shares import words
from report_runs import small

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed (apt-get install chromium)", allow_module_level=True)

FRACTION = 0.25
MEASURES = ("correlation", "overlap", "iou", "excess", "kappa", "weighted_iou", "spearman", "ssim")
NETWORKS = [f"{recipe}-{training}" for recipe in RECIPES for training in (1, 2, 3, "untrained")]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def tab(browser):
    """A tab without a network; at the end nothing may have been asked of one, and nothing gone wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab, wrong = context.new_page(), []
    tab.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file://") else None)
    # ("aborted": a neighbour was being loaded ahead when the page was left)
    tab.on("requestfailed", lambda request: wrong.append(request.url) if "ABORTED" not in request.failure else None)
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    yield tab
    context.close()
    assert wrong == []


def shown(tab) -> None:
    """Wait until the page shows what its address asks for."""
    tab.wait_for_function("document.body.dataset.shown === location.hash")


def look(tab, where: Path, **state: str) -> None:
    """Open a view by its link, as a colleague would: in a fresh page."""
    file = where if where.suffix == ".html" else where / "data" / "atlas" / "index.html"
    tab.goto("about:blank")
    tab.goto(f"{file.as_uri()}#{'&'.join(f'{name}={value}' for name, value in state.items())}")
    shown(tab)


def choose(tab, name: str, value: str) -> None:
    tab.locator(f"section:not([hidden]) select[name={name}]").select_option(value)
    shown(tab)


def cards(tab) -> list[int]:
    """The patches in the grid, in its order."""
    return [int(card.split("-")[1]) for card in tab.locator(".card").evaluate_all("all => all.map((one) => one.id)")]


def key(run: Path, row: int) -> str:
    """The name of the patch of this row of the explained ones."""
    (found,) = (run / "data" / "atlas" / "run" / "patches").glob(f"{row + 1:05d}-*.png")
    return found.stem


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "plots" / f"{name}.csv", dtype=str, keep_default_na=False)


def file_of(folder: Path, network: str) -> Path:
    recipe, training = network.split("-")
    return folder / recipe / f"{training}.h5"


def digits(value: str | float) -> str:
    """Three significant digits, as the page has them: JavaScript rounds a half up, Python to the even digit."""
    rounded = Context(prec=3, rounding=ROUND_HALF_UP).plus(Decimal(float(value)))
    return f"{float(rounded):#.3g}"


def masks_of(run: Path, method: str, network: str, row: int, fraction: float) -> np.ndarray:
    maps = open_heatmaps(file_of(run / "data" / "heatmaps" / method, network)).read(slice(row, row + 1))
    return top_mask(maps.reshape(1, -1).astype(np.float32), fraction)


# The answer


def test_the_written_answer_is_there_word_for_word(run, tab):
    look(tab, run)
    tab.locator("#written-0 details").evaluate_all("all => all.forEach((one) => (one.open = true))")
    whole = (run / "metrics" / "answer.md").read_text()
    assert whole.startswith("**The tissue is synthetic**")  # which the page says itself, above
    written = re.sub(r"^(# |!\[|\*\*The tissue).*$|[#*`]|^ *- ", "", whole, flags=re.MULTILINE)
    tab.locator("#shares-0").evaluate("one => one.remove()")
    assert tab.locator("#written-0").inner_text().split() == written.split()


def test_the_answer_begins_with_the_shares_of_the_headline_as_bars_with_their_intervals(run, tab):
    look(tab, run)
    rows = table(run, "shares").query("sigma == '2' and fraction == '0.25' and label == 'both'")
    bars = tab.locator("#shares-0 .stack")
    assert bars.count() == len(METHODS)
    first = tab.locator("#written-0 > *").first
    assert first.get_attribute("id") == "shares-0"
    looks = bars.first.evaluate(
        """(bar, names) => names.map((name) => {
      const share = bar.appendChild(document.createElement("div"));
      share.className = `share ${name}`;
      const look = getComputedStyle(share).background;
      share.remove();
      return look;
    })""",
        ["of no kind", *words("recipe")],
    )
    assert len(set(looks)) == len(looks) == 7
    for place, method in enumerate(METHODS):
        shares = rows[rows["method"] == method].set_index("share")
        for name, row in shares[shares["value"] != ""].iterrows():
            value, low, high = (f"{100 * float(row[end]) + 0.0:.0f}" for end in ("value", "low", "high"))
            assert re.search(rf"{value} \({low} to {high}\) %", bars.nth(place).get_attribute("aria-label")), name
        drawn = {"input", "learned"} if shares["value"]["input"] else {"common"}
        drawn |= {"recipe", "training"} | ({"noise"} if shares["value"]["noise"] else set())
        widths = {
            name: bars.nth(place).locator(f".share.{name}").evaluate("one => one.getBoundingClientRect().width")
            for name in drawn
        }
        lengths = bars.nth(place).locator(".whisker").evaluate_all("all => all.map((one) => one.offsetWidth)")
        assert bars.nth(place).locator(".share").count() == len(lengths) == len(drawn)
        values = {name: max(0.0, float(shares["value"][name])) for name in drawn}
        scale = sum(widths.values()) / sum(values.values())
        for name in drawn:
            assert widths[name] == pytest.approx(scale * values[name], abs=1)
        order = [name for name in ("common", "input", "learned", "recipe", "training", "noise") if name in drawn]
        of_table = [scale * (float(shares["high"][name]) - float(shares["low"][name])) for name in order]
        np.testing.assert_allclose(lengths, of_table, atol=1.5)


def test_every_cell_is_that_of_the_table_and_says_what_it_rests_on(run, tab):
    agreement = table(run, "agreement")
    for method in METHODS:
        for measure in MEASURES:
            look(tab, run, method=method, measure=measure)
            labels = tab.locator("#matrices .cell").evaluate_all("all => all.map((one) => one.ariaLabel)")
            texts = tab.locator("#matrices .cell").all_inner_texts()
            own = agreement[agreement["method"] == method]
            assert len(labels) == len(own) == 28
            for place, row in enumerate(own.to_dict("records")):
                names = f"{row['network_a']} and {row['network_b']},"
                (at,) = [at for at, said in enumerate(labels) if said.startswith(names)]
                assert texts[at] == digits(row[measure])
                if measure != "iou" or place % 5:
                    continue
                cell = tab.locator("#matrices .cell").nth(at)
                cell.focus() if place % 2 else cell.hover()
                said = tab.locator("#matrices .details").inner_text()
                for name in (
                    "kappa",
                    "spearman",
                    "weighted_iou",
                    "weighted_iou_chance",
                    "overlap",
                    "ssim",
                    "ssim_null",
                ):
                    assert digits(row[name]) in re.findall(r"[\d.e-]*\d", said)
                for name in ("iou", "null", "excess", "correlation"):
                    ends = f"{digits(row[f'{name}_low'])} to {digits(row[f'{name}_high'])}"
                    assert f"{digits(row[name])}, 95 % interval {ends}" in said
                assert f"{row['patches']} patches of {row['slides']} slides" in said
                assert digits(row["iou"]) in labels[at]


def test_pairs_of_one_recipe_and_with_untrained_networks_are_marked_and_stand_together(run, tab):
    look(tab, run)
    heads = tab.locator("#matrices thead th").all_inner_texts()
    assert heads == [f"{recipe}-{seed}" for recipe in RECIPES for seed in (1, 2, 3)] + ["test_resnet-untrained"]
    assert tab.locator("#matrices .cell.within").count() == 6
    assert tab.locator("#matrices .cell.between").count() == 9
    assert tab.locator("#matrices .cell.untrained").count() == 13


def test_of_many_networks_a_cell_is_a_colour_and_its_number_is_said_where_it_can_be_seen(tmp_path, tab):
    raw = small(RECIPES, (*range(1, 13), "untrained"), ["lime"])
    made_up_run.write(tmp_path, raw, patches=7, slides=3)
    made_up_run.build(tmp_path)
    look(tab, tmp_path, method="lime")
    tab.set_viewport_size({"width": 800, "height": 400})
    cells, rows = tab.locator("#matrices .cell"), table(tmp_path, "agreement").set_index(["network_a", "network_b"])
    assert cells.all_inner_texts() == [""] * (26 * 25 // 2)
    assert {(box["width"], box["height"]) for box in (cells.nth(n).bounding_box() for n in (0, 50, 324))} == {(12, 12)}
    cells.first.hover()
    details = tab.locator("#matrices .details")
    box = details.bounding_box()
    assert box["y"] + box["height"] <= 400
    assert f"IoU\n{digits(rows.loc[('test_resnet-1', 'test_resnet-2'), 'iou'])}" in details.inner_text()
    for number in (60, 150, 324):
        cells.nth(number).focus()
        tab.wait_for_timeout(100)
        assert cells.nth(number).evaluate(SEEN)
    look(tab, tmp_path, view="patch", patch=key(tmp_path, 3), method="lime")
    first = tab.locator("#pairs .cell").first
    assert first.inner_text() == ""
    assert re.fullmatch(r"test_resnet-1 ~ test_resnet-2: 0\.\d+", first.get_attribute("title"))


def test_agreement_of_recipes_and_the_trainings_to_average_fold_below(run, tab):
    look(tab, run, method="lime")
    said = tab.locator("#recipes").text_content()
    row = table(run, "recipes").query("method == 'lime'").iloc[0]
    assert f"test_resnet ~ test_byobnet{digits(row['value'])} ({digits(row['low'])} to {digits(row['high'])})" in said
    for row in table(run, "reliability").query("method == 'lime' and trainings == '1'").to_dict("records"):
        assert f"{row['recipe']}{digits(row['value'])}" in said
        assert f"){math.ceil(float(row['needed']))}" in said


def test_doubts_about_heatmaps_stand_beside_the_pair(run, tab):
    look(tab, run, view="patches", a="test_resnet-1", b="test_resnet-untrained")
    said = tab.locator("#pair").inner_text()
    assert "test_resnet-1: 1 of 24 maps constant" in said
    assert "test_resnet-untrained: uninformative by deletion and insertion" in said


SEEN = """cell => {
  const { left, top, width, height } = cell.getBoundingClientRect();
  return document.elementFromPoint(left + width / 2, top + height / 2) === cell;
}"""  # whether nothing lies over it


def look_at_gaps(tab, run: Path, folder: Path, gaps, values) -> list[dict]:
    """The page of a run of five architectures, whose ten pairs have these gaps and agreements."""
    names = ["timm/test_resnet", "timm/test_byobnet", "alexnet", "vgg11", "resnet50"]
    rows = [
        {"method": "lime", "architecture_a": a, "architecture_b": b, "auroc_gap": gap, "agreement": value}
        | {"low": value - 0.1, "high": value + 0.1}
        for (a, b), gap, value in zip(combinations(names, 2), gaps, values, strict=True)
    ]
    shutil.copytree(run, folder)
    write_table(folder / "plots" / "gaps.csv", pd.DataFrame(rows))
    summary = read_json(run / "metrics" / "summary.json")
    summary["auroc_gap"] = {"lime": {"architectures": 5, "rho": -0.3, "p": 0.41, "critical_rho": 0.66}}
    write_json(folder / "metrics" / "summary.json", summary)
    made_up_run.build(folder)
    look(tab, folder, method="lime")
    return rows


def test_a_few_wild_agreements_lie_at_the_edge_and_do_not_press_the_others_together(run, tmp_path, tab):
    values = [0.1 * row for row in range(8)]
    look_at_gaps(tab, run, tmp_path / "more", [0.001 * row for row in range(10)], [*values, 40.0, -30.0])
    heights = tab.locator("#gaps svg circle").evaluate_all("all => all.map((one) => Number(one.getAttribute('cy')))")
    top, bottom = heights[8:]
    assert all(
        bottom - above == pytest.approx((bottom - top) * (1 + value) / 3)
        for above, value in zip(heights[:8], values, strict=True)
    )
    assert "A 40" in tab.locator("#gaps svg a").nth(8).get_attribute("aria-label")
    assert "Values below -1 or above 2 lie at the edge." in tab.locator("#gaps figcaption").inner_text()


def test_gaps_are_shown_of_five_architectures_or_more_with_labels_that_lie_on_nothing(run, tmp_path, tab):
    look(tab, run)
    assert not tab.locator("#gap-part").is_visible()
    random = np.random.default_rng(3)
    gaps, values = random.uniform(0, 0.01, 10), random.uniform(0.5, 0.7, 10)
    rows = look_at_gaps(tab, run, tmp_path / "more", gaps, values)
    assert "edge" not in tab.locator("#gaps figcaption").inner_text()
    said = tab.locator("#gaps svg a").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    for row, text in zip(rows, said, strict=True):
        assert f"{row['architecture_a']} ~ {row['architecture_b']}: gap in AUROC" in text
        assert f"A {digits(row['agreement'])}, 95 % interval" in text
    assert "Rank correlation -0.300, p = 0.410" in tab.locator("#gaps figcaption").inner_text()
    boxes = tab.locator("#gaps svg a text, #gaps svg circle").evaluate_all(
        "all => all.map((one) => one.getBBox()).map(({x, y, width, height}) => [x, y + 2, x + width, y + height - 2])"
    )
    assert len(boxes) > 10 + 1
    for (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) in combinations(boxes, 2):
        assert left >= right_2 or left_2 >= right or top >= bottom_2 or top_2 >= bottom
    tab.locator("#gaps svg a").first.click()
    shown(tab)
    assert tab.locator("#pair h3").inner_text().startswith("test_resnet-1 ~ test_byobnet-1")


# The patches


def of_patches(run: Path, method="saliency", a="test_resnet-1", b="test_byobnet-1") -> pd.DataFrame:
    """What the filters and orders go by, from the files."""
    found = read_arrays(run / "data" / "agreement" / f"{method}.h5")
    networks = [name.decode() for name in found["networks"]]
    split, index = read_split(run / "data" / "patches", "test"), found["index"]
    pair = list(combinations(networks, 2)).index((a, b))
    frame = split.meta.iloc[index].assign(index=index, iou=found["iou"][pair], label=split.labels[index])
    for name, network in (("first", a), ("second", b)):
        logits = read_arrays(file_of(run / "data" / "logits", network))["test_logits"][index]
        threshold = float(table(run, "scores").set_index("network")["threshold"][network])
        frame[name] = (logits >= threshold) == frame["label"]
    frame["rank"] = 4 * (frame["iou"].rank() - 1) // frame["iou"].notna().sum()
    return frame


FILTERS = {
    "label": {"tumour": "label == 1", "normal": "label == 0"},
    "right": {
        "both": "first and second",
        "a": "first and not second",
        "b": "second and not first",
        "none": "not first and not second",
    },
    "slide": {f"slide_{number}": f"wsi == 'slide_{number}'" for number in range(6)},
    "quarter": {
        **{str(number + 1): f"rank == {number}" for number in range(4)},
        "undefined": "iou.isna()",
    },
    "outside": {
        "yes": "tumor_patch and not center_tumor_patch",
        "no": "not (tumor_patch and not center_tumor_patch)",
    },
}


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_leaves_the_patches_that_it_names(run, tab, name):
    frame, seen = of_patches(run), []
    look(tab, run, view="patches")
    assert sorted(cards(tab)) == sorted(frame["index"])
    for value, query in FILTERS[name].items():
        choose(tab, name, value)
        expected = frame.query(query, engine="python")["index"]
        assert sorted(cards(tab)) == sorted(expected)
        assert tab.locator("#count").inner_text() == f"{len(expected)} of 24 patches"
        seen += list(expected)
    assert sorted(seen) == sorted(frame["index"])  # and each patch is under one value


def test_filters_add_up_and_an_empty_grid_says_so(run, tab):
    frame = of_patches(run, "lime", "test_resnet-2", "test_byobnet-2")
    state = {"view": "patches", "method": "lime", "a": "test_resnet-2", "b": "test_byobnet-2"}
    look(tab, run, **state, label="tumour", right="both", slide="slide_1")
    expected = frame.query("label == 1 and first and second and wsi == 'slide_1'")["index"]
    assert sorted(cards(tab)) == sorted(expected) != []
    look(tab, run, **state, label="tumour", outside="yes")
    assert cards(tab) == []
    assert "No patch passes" in tab.locator("#grid").inner_text()


def test_orders_go_by_agreement_number_and_slide_and_undefined_comes_last(run, tab):
    frame = of_patches(run)
    look(tab, run, view="patches")
    for order, expected in {
        "low": frame.sort_values(["iou", "index"]),
        "high": frame.sort_values(["iou", "index"], ascending=[False, True]),
        "index": frame.sort_values("index"),
        "slide": frame.sort_values(["wsi", "index"]),
    }.items():
        choose(tab, "sort", order)
        assert cards(tab) == list(expected["index"]), order
    choose(tab, "sort", "low")
    last = tab.locator(".card").last.inner_text()
    assert "IoU undefined" in last
    assert "test_resnet-1: constant" in last
    first = tab.locator(".card").first.inner_text()
    assert f"IoU {digits(frame['iou'].min())}" in first


def test_a_cell_of_the_matrix_opens_the_patches_of_its_pair_least_agreed_first(run, tab):
    look(tab, run, method="lime")
    tab.get_by_role("link", name=re.compile("test_resnet-2 and test_byobnet-2")).click()
    shown(tab)
    frame = of_patches(run, "lime", "test_resnet-2", "test_byobnet-2").sort_values(["iou", "index"])
    assert cards(tab) == list(frame["index"])
    assert tab.locator("#pair h3").inner_text().startswith("test_resnet-2 ~ test_byobnet-2")
    choose(tab, "sort", "high")
    assert cards(tab) == list(frame.sort_values(["iou", "index"], ascending=[False, True])["index"])


# One patch


def test_the_slider_gives_the_iou_of_python_for_all_pairs_at_every_fraction(run, tab):
    networks, row = NETWORKS, 4
    for method in METHODS:
        look(tab, run, view="patch", patch=key(run, row), method=method)
        found = tab.evaluate(
            """([method]) => {
              const run = atlas.runs[0];
              const maps = scene.shown[0].maps[method];
              return run.steps.map(([fraction]) => run.pairs.map(([a, b]) =>
                overlap(maskOf(run, maps[a], fraction), maskOf(run, maps[b], fraction))));
            }""",
            [method],
        )
        fractions = tab.evaluate("atlas.runs[0].steps.map(([fraction]) => fraction)")
        assert {0.02, 0.1, FRACTION, 0.5} <= set(fractions)
        for fraction, own in zip(fractions, found, strict=True):
            masks = {name: masks_of(run, method, name, row, fraction) for name in networks}
            expected = [overlap(masks[a], masks[b]).item() for a, b in combinations(networks, 2)]
            np.testing.assert_allclose(own, expected, rtol=1e-6)
        compared = read_arrays(run / "data" / "agreement" / f"{method}.h5")["iou"][:, row]
        np.testing.assert_allclose(found[fractions.index(FRACTION)], compared, rtol=1e-6)


def test_moving_the_slider_shows_the_iou_at_its_fraction_and_redraws_the_masks(run, tab):
    look(tab, run, view="patch", patch=key(run, 6), a="test_byobnet-2", b="test_resnet-1", show="mask")
    slider, drawn = tab.locator("#top"), "document.querySelector('#maps canvas').toDataURL()"
    pictures = [tab.evaluate(drawn)]
    slider.focus()
    for key_ in ("Home", "ArrowRight", "End"):
        tab.keyboard.press(key_)
        shown(tab)
        percent = float(re.match(r"[\d.]+", tab.locator("label:has(#top) output").inner_text())[0])
        masks = [masks_of(run, "saliency", name, 6, percent / 100) for name in ("test_byobnet-2", "test_resnet-1")]
        said = tab.locator("#overlap").inner_text()
        assert said == f"IoU {digits(overlap(*masks).item())} of the {percent:g} % most important pixels of each"
        assert f"top={percent / 100:g}" in tab.url
        assert tab.evaluate("document.activeElement.id") == "top"
        pictures.append(tab.evaluate(drawn))
    assert len(set(pictures)) == 4


def test_the_pixels_on_the_screen_are_those_of_the_two_masks(run, tab):
    look(
        tab, run, view="patch", patch=key(run, 3), method="lime", a="test_byobnet-2", b="test_byobnet-1", opacity="100"
    )
    pixels = tab.evaluate(
        "[...scene.over.getContext('2d').getImageData(0, 0, 96, 96).data]",
    )
    pixels = np.array(pixels).reshape(-1, 4)
    a, b = (masks_of(run, "lime", name, 3, FRACTION)[0] for name in ("test_byobnet-2", "test_byobnet-1"))
    np.testing.assert_allclose(pixels[:, 3], 255 * np.maximum(a, b), atol=1)
    whole = ((a == 0) | (a == 1)) & ((b == 0) | (b == 1))
    colours = {(1, 1): (0, 0, 0), (1, 0): (0, 114, 178), (0, 1): (230, 159, 0)}
    for (in_a, in_b), colour in colours.items():
        there = whole & (a == in_a) & (b == in_b)
        assert there.sum() > 50
        assert (pixels[there, :3] == colour).all()


def test_any_two_heatmaps_can_be_laid_over_each_other(run, tab):
    look(tab, run, view="patch", patch=key(run, 8))
    tab.get_by_role("link", name="compare test_byobnet-2 under lime as first").click()
    shown(tab)
    tab.locator("#compare select[name=second]").select_option("0.saliency.test_resnet-2")
    shown(tab)
    masks = (
        masks_of(run, "lime", "test_byobnet-2", 8, FRACTION),
        masks_of(run, "saliency", "test_resnet-2", 8, FRACTION),
    )
    assert tab.locator("#overlap").inner_text().startswith(f"IoU {digits(overlap(*masks).item())} ")


def test_a_patch_says_what_the_networks_say_and_how_its_heatmaps_were_made(run, tab):
    row = 4  # unconverged
    look(tab, run, view="patch", patch=key(run, row))
    frame = of_patches(run)
    said = tab.locator("#maps tbody").first.inner_text()
    thresholds = table(run, "scores").set_index("network")["threshold"]
    for network in NETWORKS:
        logit = read_arrays(file_of(run / "data" / "logits", network))["test_logits"][row + 1]
        assert f"logit {digits(logit)}\nthreshold {digits(thresholds[network])}\n" in said
    assert said.count("right") + said.count("wrong") == 8
    title = tab.locator("#patch-title h2").inner_text()
    assert title == f"Test patch {frame['index'].iloc[row]}: tumour, slide {frame['wsi'].iloc[row]}"
    assert tab.locator("#maps .warning").all_inner_texts() == ["not converged"] * 16
    error = open_heatmaps(run / "data/heatmaps/saliency/test_resnet/1.h5").arrays["convergence_delta"][row]
    assert f"convergence delta {digits(error)}" in tab.locator("#maps details").first.text_content()
    assert tab.locator("#maps .tumour").count() == tab.locator("#maps .centre").count() == 1 + 20
    choose(tab, "tumour", "0")
    choose(tab, "centre", "0")
    assert tab.locator("#maps .tumour, #maps .centre").count() == 0


def test_a_constant_heatmap_is_a_word_and_not_a_number(run, tab):
    look(tab, run, view="patch", patch=key(run, made_up_run.NEVER), a="test_resnet-1", b="test_byobnet-2")
    assert tab.locator("#overlap").inner_text() == "IoU undefined: the map of test_resnet-1 is constant"
    assert tab.locator("#maps canvas").count() == 18
    assert "constant" in tab.locator("#maps tbody").nth(1).locator("td").first.inner_text()
    numbers = tab.locator("#pairs .cell").all_inner_texts()
    assert numbers.count("–") == 7
    assert len(numbers) == 28


def test_trainings_stand_beside_their_mean_and_the_tissue_is_as_large_as_a_heatmap(run, tab):
    row = 5
    look(tab, run, view="patch", patch=key(run, row), first="0.lime.test_byobnet-mean", second="0.lime.test_byobnet-2")
    heads = tab.locator("#maps thead th").all_inner_texts()
    assert heads == ["training 1", "training 2", "training 3", "mean", "untrained"]
    assert tab.locator("#maps tbody").nth(1).locator("th[scope=row]").all_inner_texts() == RECIPES
    sizes = tab.locator("#maps .picture").evaluate_all("all => all.map((one) => [one.offsetWidth, one.offsetHeight])")
    assert len(sizes) == 1 + 2 * 2 * 5
    assert len(set(map(tuple, sizes))) == 1
    maps = [
        open_heatmaps(file_of(run / "data" / "heatmaps" / "lime", f"test_byobnet-{seed}")).read(slice(row, row + 1))
        for seed in (1, 2, 3)
    ]
    mean = top_mask(np.mean(maps, axis=0, dtype=np.float32).reshape(1, -1), FRACTION)
    iou = overlap(mean, masks_of(run, "lime", "test_byobnet-2", row, FRACTION)).item()
    assert tab.locator("#overlap").inner_text().startswith(f"IoU {digits(iou)} ")


# Links, keys and screens


def test_a_link_restores_what_was_chosen_by_hand(run, tab):
    look(tab, run)
    choose(tab, "method", "lime")
    tab.locator("#to-patches").click()
    shown(tab)
    for name, value in {
        "a": "test_byobnet-2",
        "label": "normal",
        "outside": "no",
        "sort": "high",
        "quarter": "4",
    }.items():
        choose(tab, name, value)
    grid, pair, address = tab.locator("#grid").inner_text(), tab.locator("#pair").inner_text(), tab.url
    tab.goto("about:blank")
    tab.goto(address)
    shown(tab)
    assert (tab.locator("#grid").inner_text(), tab.locator("#pair").inner_text()) == (grid, pair)
    assert tab.locator("select[name=quarter]").input_value() == "4"
    tab.locator(".card").first.click()
    shown(tab)
    choose(tab, "show", "mask")
    tab.locator("#opacity").fill("30")
    tab.locator("#top").fill("3")
    shown(tab)
    said, address = tab.locator("#patch").inner_text(), tab.url
    tab.goto("about:blank")
    tab.goto(address)
    shown(tab)
    assert tab.locator("#patch").inner_text() == said
    assert tab.locator("#opacity").input_value() == "30"
    tab.go_back()
    assert tab.url == "about:blank"


def test_back_goes_to_the_view_before(run, tab):
    look(tab, run)
    tab.locator("#matrices .cell").first.click()
    shown(tab)
    tab.locator(".card").nth(2).click()
    shown(tab)
    tab.go_back()
    shown(tab)
    assert tab.locator("#patches").is_visible()
    tab.go_back()
    shown(tab)
    assert tab.locator("#answer").is_visible()


def test_a_view_that_a_link_leads_to_begins_at_its_top_and_the_grid_at_the_patch_that_was_open(run, tab):
    tab.set_viewport_size({"width": 400, "height": 800})
    look(tab, run)
    where = "[scrollY, document.activeElement.id]"
    tab.locator("#matrices .cell").last.click()
    shown(tab)
    assert tab.evaluate(where) == [0, "patches"]
    tab.locator(".card").nth(15).click()
    shown(tab)
    opened = tab.evaluate("new URLSearchParams(location.hash).get('patch')")
    assert tab.evaluate(where) == [0, "patch"]
    tab.get_by_role("link", name="all patches").click()
    shown(tab)
    assert tab.evaluate("document.activeElement.id") == f"card-{opened}"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().top") < 800
    depth = tab.evaluate("scrollY")
    tab.keyboard.press("Enter")
    shown(tab)
    tab.go_back()
    shown(tab)
    assert tab.evaluate("scrollY") == pytest.approx(depth, abs=5)


def test_a_cell_opens_all_patches_of_its_pair_whatever_was_chosen_before(run, both, tab):
    look(tab, run, view="patches", label="tumour", quarter="4", right="a", sort="high")
    tab.get_by_role("link", name="The answer").click()
    for place in ("first", "last"):
        getattr(tab.locator("#matrices .cell"), place).click()
        shown(tab)
        assert tab.locator("#count").inner_text().startswith("24 of 24 patches")
        tab.go_back()
        shown(tab)
    look(tab, both, top=FRACTION)
    tab.locator(".matrix").nth(1).locator(".cell").first.click()
    shown(tab)
    said = tab.locator(".card").first.locator("strong").inner_text()
    tab.locator(".card").first.click()
    shown(tab)
    assert f"{said} of the 10 %" in tab.locator("#overlap").inner_text()


def test_a_link_that_asks_for_what_is_not_there_says_so(run, tab):
    look(tab, run, view="patch", patch="99999-nothing", method="occlusion")
    said = tab.locator("#notice").inner_text()
    assert "the patch “99999-nothing”, which is not here" in said
    assert "the method “occlusion”, which is not here" in said
    odd = {"opacity": "900", "first": "0.constructor.test_resnet-1", "a": "test_resnet-1", "b": "test_resnet-1"}
    look(tab, run, view="patch", patch=key(run, 0), **odd)
    said = tab.locator("#notice").inner_text()
    for sentence in ("the opacity “900”, which is", "“0.constructor.test_resnet-1”, which is", "“test_resnet-1” twice"):
        assert sentence in said
    assert tab.locator("#overlap").inner_text().startswith("IoU ")


def test_all_of_it_can_be_reached_by_keyboard(run, tab):
    look(tab, run)

    def tab_to(selector: str) -> None:
        for _ in range(80):
            tab.keyboard.press("Tab")
            if tab.evaluate(f"document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"Tab never came to {selector}")

    tab_to("select[name=measure]")
    tab_to("#matrices .cell")
    before = tab.locator("#matrices .details").inner_text()
    tab.keyboard.press("Tab")
    assert tab.locator("#matrices .details").inner_text() != before
    tab.keyboard.press("Enter")
    shown(tab)
    tab_to("select[name=sort]")
    tab.keyboard.press("ArrowDown")
    shown(tab)
    assert tab.evaluate("document.activeElement.name") == "sort"
    tab_to(".card")
    order = cards(tab)
    down = columns(tab)
    at = "Number(document.activeElement.id.split('-')[1])"
    for press, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowDown", 1 + down)):
        tab.keyboard.press(press)
        assert tab.evaluate(at) == order[place]
    tab.keyboard.press("Enter")
    shown(tab)
    for press, place in (("ArrowRight", 2 + down), ("ArrowRight", 3 + down), ("ArrowLeft", 2 + down)):
        tab.keyboard.press(press)
        shown(tab)
        assert f"Test patch {order[place]}:" in tab.locator("#patch-title h2").inner_text()
    tab_to("#top")
    tab_to("a.pick.second")
    tab.keyboard.press("Enter")
    shown(tab)
    assert "second=" in tab.url
    assert tab.evaluate("document.activeElement.classList.contains('pick')")


def columns(tab) -> int:
    tops = tab.locator(".card").evaluate_all("all => all.map((one) => one.offsetTop)")
    return tops.count(tops[0])


@pytest.mark.parametrize("width", [1280, 400])
def test_no_view_is_wider_than_the_screen(run, both, tab, width):
    tab.set_viewport_size({"width": width, "height": 800})
    for where in (run, both):
        for view in ("answer", "patches", "patch"):
            look(tab, where, view=view)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.locator(f"#{view}").is_visible()


# Runs without something, and two runs


def test_a_run_without_tumour_masks_says_so(other, tab):
    look(tab, other, view="patch", patch=key(other, 0))
    assert "This data set has no tumour masks." in tab.locator("#patch-controls").inner_text()
    assert tab.locator("#maps .tumour").count() == 0
    look(tab, other, view="patches")
    assert tab.locator("#count").inner_text() == "5 of 5 patches (of 24 explained, evenly spaced)"


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """Two networks of one training each, one of whose heatmaps are constant, on few patches of one slide."""
    folder = tmp_path_factory.mktemp("given")
    made_up_run.write(folder, small(RECIPES, (1,), ["lime"]), patches=9, slides=1, silent="test_byobnet-1")
    made_up_run.build(folder)
    return folder


def test_a_network_whose_heatmaps_say_nothing_has_no_number_and_nothing_is_made_up(given, tab):
    for measure in MEASURES:
        look(tab, given, measure=measure)
        assert tab.locator("#matrices .cell").inner_text() == "undefined"
        assert tab.locator("#matrices .scale").count() == 0
        said = tab.locator("body").inner_text()
        assert "Infinity" not in said
        assert "NaN" not in said
        assert "no patch where neither map is constant" in tab.locator("#matrices .cell").get_attribute("aria-label")


def test_shares_that_are_undefined_say_why_in_place_of_a_bar(given, tab):
    look(tab, given)
    assert tab.locator("#shares-0 .stack").count() == 0
    reason = table(given, "shares")["reason"].iloc[0]
    assert reason
    assert tab.locator("#shares-0").inner_text().split("\n")[-1] == f"undefined: {reason}"
    assert (
        tab.locator("#matrices .details").inner_text().count("none: no other patch of the label on another slide") == 1
    )


def test_a_recipe_of_one_training_has_no_mean(given, tab):
    look(tab, given, view="patch", patch=key(given, 0))
    assert tab.locator("#maps thead th").all_inner_texts() == ["training 1"]


def test_a_measure_that_ties_leave_undefined_says_why(tmp_path, tab):
    raw = small(RECIPES, (1,), ["lime"])
    raw["agreement"]["ties"] = "all"
    made_up_run.write(tmp_path, raw, patches=9)
    made_up_run.build(tmp_path)
    look(tab, tmp_path, measure="kappa")
    said = tab.locator("#matrices .cell").get_attribute("aria-label")
    assert "undefined: the areas of masks differ. IoU 0." in said


def test_a_method_that_one_of_two_runs_lacks_is_shown_of_the_other(run, other, tmp_path, tab):
    made_up_run.write(tmp_path / "less", small(RECIPES, (1,), ["saliency"]), patches=9)
    made_up_run.build(tmp_path / "less")
    for name, one in (("run", tmp_path / "less"), ("other", run)):
        shutil.copytree(one / "data" / "atlas" / "run", tmp_path / name)
    page.write_page(tmp_path, {"run": "this run", "other": "more"}, [])
    look(tab, tmp_path / "index.html")
    assert "No setting differs between the runs." in tab.locator("#answer").inner_text()
    choose(tab, "method", "lime")
    assert tab.locator("#matrices .cell").count() == 28
    assert tab.locator("#matrices").get_by_text("lime is not in this run.").count() == 1
    tab.locator("#matrices .cell").first.click()
    shown(tab)
    assert tab.locator("section:not([hidden]) select[name=run]").input_value() == "1"
    assert tab.locator("#notice").inner_text() == ""


def test_two_runs_stand_beside_each_other_with_what_differs(run, other, both, tab):
    look(tab, both, method="lime")
    said = tab.locator(".differences").inner_text()
    assert "agreement.top_fraction\t0.25\t0.1" in said
    assert "atlas.patches\t256\t5" in said
    assert "recipes\ttest_resnet, test_byobnet\ttest_resnet" in said
    assert "trainings\t1, 2, 3, untrained\t1, 2, untrained" in said
    assert len(said.splitlines()) == 6
    assert tab.locator("#matrices table").count() == 2
    assert tab.locator("#matrices .cell").count() == 28 + 3
    assert tab.locator(".written-answer").count() == 2
    own = table(other, "agreement").query("method == 'lime' and network_a == 'test_resnet-1'")
    assert f"{digits(own['iou'].iloc[0])}, 95 % interval" in tab.locator("#matrices .details").nth(1).inner_text()


def test_a_network_and_patches_that_are_in_one_run_only_are_named(run, other, both, tab):
    look(tab, both, view="patch", patch=key(other, 0), first="0.lime.test_resnet-1", second="1.lime.test_resnet-1")
    assert tab.get_by_text("test_byobnet is not in smaller").count() == 1 + 2
    assert tab.locator("#maps tbody").first.inner_text().count("logit") == 8 + 3
    masks = masks_of(run, "lime", "test_resnet-1", 0, FRACTION), masks_of(other, "lime", "test_resnet-1", 0, FRACTION)
    assert tab.locator("#overlap").inner_text().startswith(f"IoU {digits(overlap(*masks).item())} ")
    assert tab.locator("#maps canvas").count() == 2 * (8 + 2 + 3 + 1)
    look(tab, both, view="patch", patch=key(run, 1))
    assert tab.get_by_text("this patch was not explained in smaller").count() == 1 + 2
    look(tab, both, view="patches", a="test_resnet-1", b="test_resnet-2")
    assert "smaller: not there" in tab.locator(f"#card-{key(run, 1)}").inner_text()
    same = of_patches(other, b="test_resnet-2").query("index == 1")["iou"].iloc[0]
    assert f"smaller: IoU {digits(same)}" in tab.locator(f"#card-{key(other, 0)}").inner_text()
