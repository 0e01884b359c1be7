"""Of where a network looks, what is common to all recipes, what is its recipe's and what the single training's.

The unit is patch-specific overlap C (see `overlaps`), as a share of that of a network with itself; intervals cover
another training of the same recipes and other slides (see `intervals`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pcam_agreement.agreement.components import Layout, Networks
from pcam_agreement.agreement.intervals import Estimate, Replicates, jackknife_interval, undefined
from pcam_agreement.agreement.overlaps import Overlaps

RELIABILITY = 0.8  # that the mean heatmap of enough trainings reaches
TINY = 1e-9  # of an overlap: rounding
NO_REPEATS = "there are no heatmaps from other perturbation samples"
Function = Callable[[np.ndarray], np.ndarray]  # of components [..., c] to an estimate [...]


@dataclass(frozen=True)
class Decomposition:
    """What networks share under one method, in one view of its heatmaps.

    shares: of C_T, the mean overlap of a network with itself: common (= input + learned: what untrained networks see
    as well, and the rest), recipe, training and noise (of a stochastic method), which add up to 1. agreement: A of each
    pair of recipes, C_ab / sqrt(C_aa C_bb), 1 where they are as alike as trainings of one recipe; R: the same of all
    pairs, a ratio of sums; R_learned: without the input part. reliability: C_aa / C_T, that of a single training's
    heatmap; trainings_needed: how many must be averaged for a reliability of 0.8 (Spearman-Brown), a real number, inf
    where the interval knows no upper end. untrained: the overlap of untrained networks of different architectures, and
    imprint: of a recipe's trainings with the untrained network of its architecture, both as shares of C_T. overlap,
    correlation: C_ij and r_ij = C_ij / sqrt(C_ii C_jj) of every pair of networks [m, m], with the interval of r over
    slides. left_out: recipes that do not enter, with the reason. covers: what the intervals are about: "trainings and
    slides", "slides" or "".
    """

    shares: dict[str, Estimate]
    R: Estimate
    R_learned: Estimate
    reliability: Estimate
    trainings_needed: Estimate
    agreement: dict[tuple[str, str], Estimate]
    own_reliability: dict[str, Estimate]
    own_trainings_needed: dict[str, Estimate]
    untrained: Estimate
    imprint: dict[str, Estimate]
    overlap: np.ndarray
    correlation: np.ndarray
    correlation_low: np.ndarray
    correlation_high: np.ndarray
    recipes: list[str]
    left_out: dict[str, str]
    covers: str
    patches: int


def decompose(overlaps: Overlaps, networks: Networks, repeated: Overlaps | None = None) -> Decomposition:
    """The decomposition of the overlaps of all pairs of m networks, each with itself among them (`all_pairs`).

    repeated: of a stochastic method, the overlaps of each network's heatmaps with themselves and with those from other
    perturbation samples, on the patches that have both: pairs (i, i) of all i, then (i, m + i). Its slides are numbered
    as those of overlaps.
    """
    chosen, left_out = _entering(networks)
    layout = Layout(chosen)
    if repeated is not None and not len(repeated.label):
        repeated = None  # patches of too few slides
    replicates = Replicates.of(overlaps, repeated, layout, networks)
    estimates = _Estimates(layout, replicates, repeated is not None)
    reliability = estimates.reliability()
    no_agreement = estimates.why_no_agreement(reliability)
    not_separated = estimates.why_not_separated()
    matrix = _Pairs(overlaps, len(networks.recipes))
    return Decomposition(
        shares=estimates.shares(not_separated),
        R=estimates.ratio(estimates.R, no_agreement),
        R_learned=estimates.ratio(estimates.R_learned, not_separated or no_agreement),
        reliability=reliability,
        trainings_needed=trainings_needed(reliability),
        agreement=estimates.agreement(),
        own_reliability=(own := estimates.own_reliability()),
        own_trainings_needed={name: trainings_needed(estimate) for name, estimate in own.items()},
        untrained=estimates.untrained(),
        imprint=estimates.imprint(),
        overlap=matrix.overlap,
        correlation=matrix.correlation,
        correlation_low=matrix.low,
        correlation_high=matrix.high,
        recipes=chosen,
        left_out=left_out,
        covers=replicates.covers,
        patches=int(overlaps.patches.sum()),
    )


def trainings_needed(reliability: Estimate) -> Estimate:
    """How many trainings' masks must be averaged for a reliability of 0.8, from that of one: Spearman and Brown, 1910.

    The mean of n has the reliability n rho / (1 + (n - 1) rho).
    """

    def needed(rho: float) -> float:
        if np.isnan(rho):
            return np.nan
        return RELIABILITY / (1 - RELIABILITY) * (1 / rho - 1) if rho > 0 else np.inf

    if reliability.value <= 0:
        return undefined("two trainings of a recipe share nothing that is about the patch")
    value, low, high = (needed(rho) for rho in (reliability.value, reliability.high, reliability.low))
    return Estimate(value, low, high, np.nan, reliability.reason)


def _entering(networks: Networks) -> tuple[list[str], dict[str, str]]:
    """The recipes that enter shares and R, and why others do not: those of three trainings, if none has, of two."""
    counts = {name: len(networks.trainings(name)) for name in dict.fromkeys(networks.recipes)}
    needed = 3 if max(counts.values(), default=0) >= 3 else 2
    entering = [name for name, count in counts.items() if count >= needed]
    left_out = {
        name: f"it has {count} training{'s' if count != 1 else ''}, {needed} are needed"
        for name, count in counts.items()
        if count < needed
    }
    return entering, left_out


def _mean_of_two(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The geometric mean; NaN where either is negative: without some slide a recipe may share nothing."""
    return np.sqrt(np.where((a < 0) | (b < 0), np.nan, a * b))


class _Estimates:
    """Estimates of components and their intervals."""

    def __init__(self, layout: Layout, replicates: Replicates, stochastic: bool) -> None:
        self.layout, self.replicates, self.stochastic = layout, replicates, stochastic
        self.blocks = layout.blocks
        self.a, self.b = np.array(layout.pairs, int).reshape(-1, 2).T

    def of(self, name: str, components: np.ndarray) -> np.ndarray:
        return components[..., self.blocks[name]]

    def mean(self, name: str, components: np.ndarray) -> np.ndarray:
        return self.of(name, components).mean(-1)

    # the quantities, of components [..., c]

    def common(self, c: np.ndarray) -> np.ndarray:
        return self.mean("between", c) / self.mean("total", c)

    def within(self, c: np.ndarray) -> np.ndarray:
        return self.mean("within", c) / self.mean("total", c)

    def noise(self, c: np.ndarray) -> np.ndarray:
        if not self.stochastic:
            return np.zeros(c.shape[:-1])
        return self.mean("noise", c) / self.mean("noise_total", c)

    def input_of(self, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """C_aU C_bU / C_UU: what even untrained networks see of the overlap of a and b, a partial covariance."""
        seen = self.of("input", c)
        return seen[..., a] * seen[..., b] / self.of("untrained", c)

    def input(self, c: np.ndarray) -> np.ndarray:
        return self.input_of(c, self.a, self.b).mean(-1) / self.mean("total", c)

    def R(self, c: np.ndarray) -> np.ndarray:  # noqa: N802  as the paper's symbol
        within = self.of("within", c)
        return self.of("between", c).sum(-1) / _mean_of_two(within[..., self.a], within[..., self.b]).sum(-1)

    def R_learned(self, c: np.ndarray) -> np.ndarray:  # noqa: N802
        every = np.arange(len(self.layout.recipes))
        within = self.of("within", c) - self.input_of(c, every, every)
        between = self.of("between", c) - self.input_of(c, self.a, self.b)
        return between.sum(-1) / _mean_of_two(within[..., self.a], within[..., self.b]).sum(-1)

    # estimates of them

    def reliability(self) -> Estimate:
        return self.ratio(self.within, linear=False)

    def shares(self, not_separated: str) -> dict[str, Estimate]:
        one = "" if len(self.layout.recipes) > 1 else "there is one recipe only"
        return {
            "common": self.ratio(self.common, one, linear=False),
            "input": self.ratio(self.input, one or not_separated, linear=False),
            "learned": self.ratio(lambda c: self.common(c) - self.input(c), one or not_separated, linear=False),
            "recipe": self.ratio(lambda c: self.within(c) - self.common(c), one, linear=False),
            "training": self.ratio(lambda c: 1 - self.within(c) - self.noise(c), linear=False),
            "noise": self.ratio(self.noise, "" if self.stochastic else NO_REPEATS, linear=False),
        }

    def agreement(self) -> dict[tuple[str, str], Estimate]:
        result, within = {}, self.of("within", self.replicates.components)
        for row, (a, b) in enumerate(self.layout.pairs):

            def of_pair(c: np.ndarray, row: int = row, a: int = a, b: int = b) -> np.ndarray:
                alike = self.of("within", c)
                return self.of("between", c)[..., row] / _mean_of_two(alike[..., a], alike[..., b])

            names = self.layout.recipes[a], self.layout.recipes[b]
            nothing = [name for name, index in zip(names, (a, b), strict=True) if not within[index] > TINY]
            result[names] = self.ratio(of_pair, _share_nothing(nothing))
        return result

    def own_reliability(self) -> dict[str, Estimate]:
        def of_recipe(a: int) -> Function:
            return lambda c: self.of("within", c)[..., a] / self.of("total", c)[..., a]

        total = self.of("total", self.replicates.components)
        return {
            name: self.ratio(
                of_recipe(a), "" if total[a] > TINY else f"no heatmap of {name} depends on the patch", linear=False
            )
            for a, name in enumerate(self.layout.recipes)
        }

    def imprint(self) -> dict[str, Estimate]:
        def of_recipe(a: int) -> Function:
            return lambda c: self.of("imprint", c)[..., a] / self.mean("total", c)

        return {name: self.ratio(of_recipe(a), linear=False) for a, name in enumerate(self.layout.recipes)}

    def untrained(self) -> Estimate:
        return self.ratio(lambda c: self.of("untrained", c)[..., 0] / self.mean("total", c), linear=False)

    # where they are undefined

    def why_no_agreement(self, reliability: Estimate) -> str:
        if len(self.layout.recipes) < 2:
            return "there is one recipe only"
        within = self.of("within", self.replicates.components)
        nothing = [name for name, value in zip(self.layout.recipes, within, strict=True) if not value > TINY]
        if not nothing and not reliability.low > 0:
            return "it is not certain that trainings of one recipe share anything about the patch"
        return _share_nothing(nothing)

    def why_not_separated(self) -> str:
        """Why the input part cannot be told from the learned one, "" where it can."""
        if np.isnan(self.of("untrained", self.replicates.components)).any():
            return "there are no untrained networks of different architectures"
        if np.isnan(self.of("input", self.replicates.components)).any():
            return "a recipe has no untrained network of another architecture"
        if not self.replicates.untrained_can_be_left_out:
            return "it takes three untrained networks or more to tell the input part from the learned one"
        of_untrained = self.ratio(lambda c: self.of("untrained", c)[..., 0], linear=False)
        if not of_untrained.low > 0:
            return "it is not certain that untrained networks share anything about the patch"
        return ""

    def ratio(self, quantity: Function, why_not: str = "", linear: bool = True) -> Estimate:
        """The estimate of a quantity; undefined where a reason is given or networks show nothing about the patch."""
        if not self.layout.recipes:
            return undefined("no recipe has two trainings")
        if np.isnan(total := self.mean("total", self.replicates.components)):
            return undefined("no label has patches of three slides")
        if not total > TINY:
            return undefined("no heatmap depends on the patch")
        return undefined(why_not) if why_not else self.replicates.estimate(quantity, linear)


def _share_nothing(recipes: list[str]) -> str:
    return f"trainings of {', '.join(recipes)} share nothing about the patch" if recipes else ""


class _Pairs:
    """C and r of every pair of m networks, with intervals of r over slides."""

    def __init__(self, overlaps: Overlaps, m: int) -> None:
        values, without = overlaps.patch_specific()
        i, j = overlaps.pairs.T
        self.overlap = self._matrix(values, i, j, m)

        def correlation(c: np.ndarray) -> np.ndarray:
            itself = np.zeros((*c.shape[:-1], m))
            itself[..., i[i == j]] = c[..., i == j]
            product = itself[..., i] * itself[..., j]
            return c / np.sqrt(np.where(product > TINY**2, product, np.nan))

        self.correlation = self._matrix(correlation(values), i, j, m)
        low, high = jackknife_interval(correlation(values), correlation(without))
        self.low, self.high = self._matrix(low, i, j, m), self._matrix(high, i, j, m)

    @staticmethod
    def _matrix(values: np.ndarray, i: np.ndarray, j: np.ndarray, m: int) -> np.ndarray:
        matrix = np.full((m, m), np.nan)
        matrix[i, j] = matrix[j, i] = values
        return matrix
