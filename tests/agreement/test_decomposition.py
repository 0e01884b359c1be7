"""Shares, R and the number of trainings: closed forms, known components, coverage, and where nothing can be said."""

import importlib.util
import math
import warnings

import numpy as np
import pytest

from pcam_agreement.agreement.components import Layout, Networks, weights
from pcam_agreement.agreement.decomposition import Decomposition, _mean_of_two, decompose, trainings_needed
from pcam_agreement.agreement.intervals import Estimate, _pair_variance
from pcam_agreement.agreement.overlaps import Overlaps, all_pairs
from pcam_agreement.agreement.shares import decompose_heatmaps
from repository import ROOT

spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "benchmarks" / "coverage.py")
assert spec and spec.loader
simulation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulation)
Model = simulation.Model


def trained(recipes: str, untrained: str = "") -> Networks:
    """Networks of recipes with one letter each, which are their architectures too."""
    names = [*recipes, *untrained]
    return Networks(names, names, [True] * len(recipes) + [False] * len(untrained))


def of_matrix(matrix: np.ndarray, networks: Networks, slides: int = 8) -> Decomposition:
    """The decomposition where C is this matrix: every slide has one patch, on which the overlap is C and no other."""
    i, j = all_pairs(len(matrix)).T
    sums = np.tile(matrix[i, j], (slides, 1))
    overlaps = Overlaps(
        pairs=all_pairs(len(matrix)),
        label=np.zeros(slides, int),
        group=np.arange(slides),
        patches=np.ones(slides, int),
        squares=np.ones(slides, int),
        same=sums,
        slide=sums,
        without=sums,
        total=sums.sum(0, keepdims=True),
    )
    return decompose(overlaps, networks)


def blocks(recipes: int, trainings: int, common: float, recipe: float, total: float = 1.0) -> np.ndarray:
    """C of networks whose recipes share `common` and whose trainings of a recipe share `recipe` more."""
    of = np.repeat(np.arange(recipes), trainings)
    matrix = common + recipe * (of[:, None] == of)
    np.fill_diagonal(matrix, total)
    return matrix


def heatmaps(recipes: int, trainings: int, patches: int = 48, side: int = 24, **parts: float) -> np.ndarray:
    """Heatmaps of networks that follow something common, something of the recipe's, and noise of each training's."""
    rng = np.random.default_rng(0)
    common = rng.random((patches, side, side))
    maps = []
    for _ in range(recipes):
        of_recipe = rng.random((patches, side, side))
        for _ in range(trainings):
            noise = parts.get("training", 1) * rng.random((patches, side, side))
            maps.append(parts.get("common", 1) * common + parts.get("recipe", 1) * of_recipe + noise)
    return np.array(maps)


LABELS, SLIDES = np.arange(48) % 2, np.arange(48) // 4


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_known_components_are_the_shares_a_and_r(trainings):
    result = of_matrix(blocks(3, trainings, 0.2, 0.3), trained("".join(c * trainings for c in "abc")))
    values = {name: estimate.value for name, estimate in result.shares.items()}
    assert values["common"] == pytest.approx(0.2)
    assert values["recipe"] == pytest.approx(0.3)
    assert values["training"] == pytest.approx(0.5)
    assert result.R.value == pytest.approx(0.4)
    assert [estimate.value for estimate in result.agreement.values()] == pytest.approx([0.4] * 3)
    assert result.reliability.value == pytest.approx(0.5)
    assert result.trainings_needed.value == pytest.approx(4)
    assert result.covers == ("trainings and slides" if trainings > 2 else "slides")


def test_shares_add_up_to_one_and_input_and_learned_to_common():
    shares = {name: share.value for name, share in Model().simulate(0).shares.items()}
    assert sum(shares[name] for name in ("common", "recipe", "training", "noise")) == pytest.approx(1)
    assert shares["input"] + shares["learned"] == pytest.approx(shares["common"])


def test_the_input_part_is_what_follows_from_what_untrained_networks_see():
    """Trained networks follow what untrained ones see with 0.6, 0.5 and 0.4 of a part of 0.5."""
    follows, seen = np.repeat([0.6, 0.5, 0.4], 3), 0.5
    matrix = blocks(3, 3, 0.1, 0.2) + seen * np.outer(follows, follows)
    np.fill_diagonal(matrix, 1)
    crossed = np.tile(seen * follows[:, None], 3)
    among = np.full((3, 3), seen)
    np.fill_diagonal(among, 1)
    whole = np.block([[matrix, crossed], [crossed.T, among]])
    result = of_matrix(whole, trained("aaabbbccc", "abc"))
    expected = seen * np.mean([0.6 * 0.5, 0.6 * 0.4, 0.5 * 0.4])
    assert result.shares["input"].value == pytest.approx(expected)
    assert result.shares["learned"].value == pytest.approx(0.1)
    assert result.R_learned.value == pytest.approx(0.1 / 0.3)
    assert result.untrained.value == pytest.approx(seen)
    assert result.imprint["a"].value == pytest.approx(seen * 0.6)


def test_two_recipes_of_one_law_agree_as_much_as_trainings_of_one():
    result = of_matrix(blocks(1, 6, 0.3, 0.0), trained("aaabbb"))
    assert result.R.value == pytest.approx(1)
    assert result.shares["recipe"].value == pytest.approx(0)


def test_the_number_of_trainings_is_spearman_and_browns_and_has_no_upper_end_where_the_interval_reaches_zero():
    needed = trainings_needed(Estimate(0.5, -0.1, 0.8, 0.1))
    assert (needed.value, needed.low, needed.high) == pytest.approx((4, 1, math.inf))
    assert "share nothing" in trainings_needed(Estimate(-0.01, -0.1, 0.1, 0.05)).reason


def test_averaged_masks_are_as_reliable_as_spearman_and_brown_say():
    """Two halves of eight trainings: the correlation of their mean masks is 4 rho / (1 + 3 rho)."""
    from pcam_agreement.agreement.overlaps import View, slide_groups, sum_overlaps, view_masks

    masks = view_masks(heatmaps(1, 8, patches=200, common=0.7, recipe=0), View(0, 0.25))
    labels, slides = np.zeros(200, int), np.arange(200) // 4
    networks = trained("aaaaaaaa")
    result = decompose(
        sum_overlaps(lambda rows: masks[:, rows], 144, all_pairs(8), labels, slides, slide_groups(slides)), networks
    )
    halves = masks.reshape(2, 4, *masks.shape[1:]).mean(1)
    sums = sum_overlaps(lambda rows: halves[:, rows], 144, all_pairs(2), labels, slides, slide_groups(slides))
    (first, both, second), _ = sums.patch_specific()
    rho = result.reliability.value
    assert both / (first * second) ** 0.5 == pytest.approx(4 * rho / (1 + 3 * rho), abs=0.01)


def test_a_network_left_out_is_in_no_component_and_every_component_is_a_mean():
    networks = trained("aaabbb", "ab")
    pairs, layout = all_pairs(8), Layout(["a", "b"])
    matrix = weights(layout, networks, pairs).toarray()
    means = [*range(*layout.blocks["total"].indices(layout.size)), layout.blocks["between"].start]
    np.testing.assert_allclose(matrix[means].sum(1), 1)
    without = weights(layout, networks, pairs, (1, 6)).toarray()
    used = np.nan_to_num(without)[:, : len(pairs)].any(0)
    assert not used[(pairs == 1).any(1) | (pairs == 6).any(1)].any()


def test_what_belongs_to_a_pair_of_trainings_is_the_residual_of_what_belongs_to_each():
    rng = np.random.default_rng(0)
    each, trainings = rng.standard_normal(10), [list(range(5)), list(range(5, 10))]
    additive = each[:, None] + each
    assert _pair_variance(additive, trainings) == pytest.approx(0, abs=1e-20)
    noisy = [additive + (noise + noise.T) / 2**0.5 for noise in 0.3 * rng.standard_normal((300, 10, 10))]
    assert np.mean([_pair_variance(matrix, trainings) for matrix in noisy]) == pytest.approx(0.09, rel=0.05)


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize("belongs_to", ["pair", "training"])
def test_the_standard_error_is_that_of_other_trainings_whether_it_belongs_to_one_or_to_a_pair(trainings, belongs_to):
    """Slides have no variance here; all that differs between replicates is drawn anew for trainings or for pairs."""
    rng, m = np.random.default_rng(0), 3 * trainings
    networks = trained("".join(c * trainings for c in "abc"))

    def matrix() -> np.ndarray:
        each, pairs = rng.standard_normal(m), rng.standard_normal((m, m))
        varying = each[:, None] + each if belongs_to == "training" else np.triu(pairs) + np.triu(pairs, 1).T
        result = blocks(3, trainings, 0.3, 0.2) + 0.02 * varying
        np.fill_diagonal(result, 1)
        return result

    drawn = [of_matrix(matrix(), networks, slides=3) for _ in range(300)]
    for of in (lambda result: result.shares["common"], lambda result: result.reliability):
        estimates = [of(result) for result in drawn]
        stated = np.mean([estimate.standard_error**2 for estimate in estimates])
        # without the excess of the jackknife taken out it would be 1.7 to 3.5
        assert 0.9 < stated / np.var([estimate.value for estimate in estimates]) < 1.6


def test_the_standard_error_of_the_input_part_is_the_jackknife_over_untrained_networks():
    """Neither slides nor trainings vary here, so that it is all that is left."""
    seen = np.array([0.5, 0.6, 0.4, 0.7])  # by each untrained network
    trainings = blocks(2, 3, 0.3, 0.2)
    among = 0.3 + np.add.outer(seen, seen) / 10

    def share(kept: list[int]) -> Estimate:
        crossed = np.tile(0.4 * seen[kept], (6, 1))
        untrained = among[np.ix_(kept, kept)].copy()
        np.fill_diagonal(untrained, 1)
        matrix = np.block([[trainings, crossed], [crossed.T, untrained]])
        return of_matrix(matrix, trained("aaabbb", "".join("cdef"[k] for k in kept))).shares["input"]

    without = np.array([share([k for k in range(4) if k != left]).value for left in range(4)])
    expected = (3 / 4 * ((without - without.mean()) ** 2).sum()) ** 0.5
    assert expected > 0.01
    assert share([0, 1, 2, 3]).standard_error == pytest.approx(expected, rel=1e-6)


def by_hand(masks: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """C of all networks [m, m], from masks [m, n, p]: pairs of patches of one label and two slides are subtracted."""
    result = np.zeros((len(masks), len(masks)))
    for label in np.unique(labels):
        rows = labels == label
        of_label, apart = masks[:, rows], slides[rows][:, None] != slides[rows]
        products = np.einsum("ipx,jqx->ijpq", of_label, of_label)
        same, different = products.diagonal(axis1=2, axis2=3).mean(-1), products[..., apart].mean(-1)
        result += rows.mean() * (same - different)
    return result


def test_estimates_and_their_intervals_are_those_of_slides_and_trainings_left_out_by_hand():
    from scipy.stats import t

    from pcam_agreement.agreement.overlaps import View, view_masks

    maps, recipes = heatmaps(3, 3, patches=24, side=12), np.repeat(np.arange(3), 3)
    labels, slides = np.arange(24) % 2, np.arange(24) // 3
    untrained = 2 * maps.mean(0) + np.random.default_rng(1).random((3, *maps.shape[1:]))
    names = [*np.array(list("abc"))[recipes], *"abc"]
    result = decompose_heatmaps(
        np.concatenate([maps, untrained]), names, labels, slides, trained=[True] * 9 + [False] * 3, sigma=0
    )
    masks = view_masks(np.concatenate([maps, untrained]), View(0, 0.25)).astype(float)
    pairs = [(0, 1), (0, 2), (1, 2)]

    def parts(c: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Total and within [3] and between [3] of the trained networks, whose recipes are given."""
        block = [[c[np.ix_(np.flatnonzero(of == a), np.flatnonzero(of == b))] for b in range(3)] for a in range(3)]
        within = [np.mean(block[a][a][~np.eye(len(block[a][a]), dtype=bool)]) for a in range(3)]
        return (
            np.array([block[a][a].diagonal().mean() for a in range(3)]),
            np.array(within),
            np.array([block[a][b].mean() for a, b in pairs]),
        )

    def common(c: np.ndarray, of: np.ndarray = recipes) -> float:
        total, _, between = parts(c, of)
        return between.mean() / total.mean()

    def variance(without: list[float]) -> float:
        return (len(without) - 1) / len(without) * ((np.array(without) - np.mean(without)) ** 2).sum()

    c = by_hand(masks, labels, slides)
    total, within, between = parts(c[:9, :9], recipes)
    over_slides = variance(
        [common(by_hand(masks[:, kept], labels[kept], slides[kept])) for kept in (slides != s for s in range(8))]
    )
    over_trainings = [
        variance([common(np.delete(np.delete(c[:9, :9], i, 0), i, 1), np.delete(recipes, i)) for i in range(9)
                  if recipes[i] == a])
        for a in range(3)
    ]  # fmt: skip
    residuals = [
        (table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()) ** 2
        for table in (c[3 * a : 3 * a + 3, 3 * b : 3 * b + 3] for a, b in pairs)
    ]
    of_a_pair = np.sum(residuals) / (3 * 2 * 2)
    excess = 3 * 2 * of_a_pair / (3 * total.mean()) ** 2 / (2 * 3 * 3)  # of three recipes, each in two pairs
    of_trainings = max(sum(over_trainings) - excess, sum(over_trainings) / 4)
    stated = over_slides + of_trainings
    degrees = stated**2 / (over_slides**2 / 3.5 + of_trainings**2 / 3)
    share = result.shares["common"]
    assert share.value == pytest.approx(between.mean() / total.mean(), rel=1e-5)
    assert share.standard_error == pytest.approx(stated**0.5, rel=1e-3)
    assert share.variances == pytest.approx({"slides": over_slides, "trainings": of_trainings}, rel=1e-3)
    assert share.high - share.value == pytest.approx(t.ppf(0.975, degrees) * stated**0.5, rel=1e-3)

    assert result.R.value == pytest.approx(
        between.sum() / sum((within[a] * within[b]) ** 0.5 for a, b in pairs), rel=1e-5
    )
    for (a, b), value in zip(pairs, between, strict=True):
        of_pair = result.agreement["abc"[a], "abc"[b]]
        assert of_pair.value == pytest.approx(value / (within[a] * within[b]) ** 0.5, rel=1e-5)
    seen = np.array(
        [np.mean([c[i, 9 + k] for i in range(3 * a, 3 * a + 3) for k in range(3) if k != a]) for a in range(3)]
    )
    among = np.mean([c[9 + k, 9 + m] for k, m in pairs])
    learned = [value - seen[a] * seen[b] / among for (a, b), value in zip(pairs, between, strict=True)]
    alike = within - seen**2 / among
    expected = sum(learned) / sum((alike[a] * alike[b]) ** 0.5 for a, b in pairs)
    assert result.R_learned.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        ("aaabbbc", {"c": "it has 1 training, 3 are needed"}),
        ("aabbc", {"c": "it has 1 training, 2 are needed"}),
        ("aaabb", {"b": "it has 2 trainings, 3 are needed"}),
    ],
)
def test_recipes_of_fewer_trainings_stand_outside_with_their_reason_and_their_pairs(recipes, expected):
    result = of_matrix(0.3 + 0.7 * np.eye(len(recipes)), trained(recipes))
    assert result.left_out == expected
    assert np.isfinite(result.correlation).all()


def test_where_nothing_can_be_said_the_reason_is_said():
    def reasons(result: Decomposition) -> dict[str, str]:
        return {
            "common": result.shares["common"].reason,
            "training": result.shares["training"].reason,
            "input": result.shares["input"].reason,
            "R": result.R.reason,
        }

    once = reasons(of_matrix(blocks(3, 1, 0.2, 0.0), trained("abc")))
    assert set(once.values()) == {"no recipe has two trainings"}
    one = reasons(of_matrix(blocks(1, 3, 0.2, 0.3), trained("aaa")))
    assert one["common"] == one["R"] == "there is one recipe only"
    assert one["training"] == ""
    nothing = of_matrix(blocks(3, 3, 0.0, 0.0), trained("aaabbbccc"))
    assert nothing.R.reason == "trainings of a, b, c share nothing about the patch"
    assert "share nothing" in nothing.trainings_needed.reason
    assert nothing.agreement["a", "b"].reason == "trainings of a, b share nothing about the patch"
    plain = blocks(3, 3, 0.2, 0.2)
    assert "no untrained networks" in reasons(of_matrix(plain, trained("aaabbbccc")))["input"]
    among = np.block([[plain, np.zeros((9, 3))], [np.zeros((3, 9)), np.eye(3)]])
    assert (
        "not certain that untrained networks share" in reasons(of_matrix(among, trained("aaabbbccc", "abc")))["input"]
    )
    two = np.block([[blocks(2, 3, 0.2, 0.2), np.full((6, 2), 0.1)], [np.full((2, 6), 0.1), 0.2 + 0.8 * np.eye(2)]])
    assert "takes three untrained networks" in reasons(of_matrix(two, trained("aaabbb", "ab")))["input"]
    constant = of_matrix(np.zeros((9, 9)), trained("aaabbbccc"))
    assert set(reasons(constant).values()) == {"no heatmap depends on the patch"}
    assert np.isnan(constant.correlation).all()


@pytest.mark.filterwarnings("error")
def test_a_recipe_of_constant_heatmaps_has_no_reliability_and_no_correlation_and_says_so():
    matrix = blocks(3, 3, 0.2, 0.3)
    matrix[6:], matrix[:, 6:] = 0, 0
    result = of_matrix(matrix, trained("aaabbbccc"))
    assert result.own_reliability["c"].reason == "no heatmap of c depends on the patch"
    assert np.isnan(result.own_reliability["c"].value)
    assert result.own_reliability["a"].value == pytest.approx(0.5)
    assert np.isnan(result.correlation[6:]).all() and np.isfinite(result.correlation[0, 1:6]).all()


@pytest.mark.parametrize("slides", [np.zeros(48, int), np.arange(48) % 2])
def test_patches_of_one_or_two_slides_say_nothing(slides):
    result = decompose_heatmaps(heatmaps(2, 3), list("aaabbb"), LABELS, slides)
    assert result.shares["common"].reason == "no label has patches of three slides"
    assert math.isnan(result.R.value)


def test_method_noise_is_what_other_perturbation_samples_change():
    rng = np.random.default_rng(1)
    maps = heatmaps(2, 3, recipe=0, training=0.5)
    once, again = (maps + 0.5 * rng.random(maps.shape) for _ in range(2))
    arguments = (list("aaabbb"), LABELS, SLIDES)
    shares = decompose_heatmaps(once, *arguments, repeated=again, sigma=0).shares
    assert shares["noise"].value > 0.1
    apart = decompose_heatmaps(once, *arguments, repeated=once, sigma=0).shares
    assert apart["noise"].value == pytest.approx(0, abs=1e-6)
    assert shares["training"].value == pytest.approx(apart["training"].value - shares["noise"].value, abs=1e-6)


def test_heatmaps_that_do_not_fit_are_refused():
    maps = heatmaps(2, 3)
    for change, expected in (
        ({"recipes": list("aaabb")}, "expected 6 recipes"),
        ({"labels": LABELS[:-1]}, "expected 48 labels"),
        ({"heatmaps": maps[0]}, r"expected heatmaps \[networks, patches, height, width\]"),
        ({"heatmaps": -maps}, "from 0 on"),
        ({"repeated": maps[:2]}, "repeated heatmaps of 6 networks"),
    ):
        arguments = {"heatmaps": maps, "recipes": list("aaabbb"), "labels": LABELS, "slides": SLIDES, **change}
        with pytest.raises(ValueError, match=expected):
            decompose_heatmaps(**arguments)


@pytest.mark.parametrize("trainings", [3, 5])
def test_estimates_are_right_on_average_and_intervals_cover_the_truth(trainings):
    """A small table of benchmarks/coverage.py: 200 replicates know a coverage to 0.03."""
    model = Model(recipes=3, trainings=trainings, slides=20)
    drawn = np.array([simulation.estimates(model, seed) for seed in range(200)])
    for name, truth, median, inside, half, best in simulation.coverage(drawn, model):
        assert inside >= 0.87, (name, inside)
        if name != "trainings_needed":
            assert median == pytest.approx(truth, abs=0.25 * best), name
            assert half < 2.5 * best, name


def test_two_trainings_give_estimates_without_bias_and_intervals_over_slides():
    model = Model(recipes=3, trainings=2, slides=20)
    results = [model.simulate(seed) for seed in range(100)]
    assert {result.covers for result in results} == {"slides"}
    for name in ("common", "recipe", "training", "noise", "input"):
        values = np.array([result.shares[name].value for result in results])
        assert np.nanmean(values) == pytest.approx(model.truth()[name], abs=4 * np.nanstd(values) / 10), name


def test_recipes_that_share_nothing_have_no_mean_and_so_no_agreement():
    within = np.array([[4.0, 9.0], [-1.0, 4.0], [-1.0, -4.0], [0.0, 4.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(_mean_of_two(*within.T), [6, np.nan, np.nan, 0])
