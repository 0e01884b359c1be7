"""Intervals of estimates from patch-specific overlaps, for another training of the same recipes and other slides.

V = V_T - O + V_S + V_U: delete-one jackknifes over the trainings of each recipe, over slides and, where they enter,
over untrained networks. The jackknife over trainings counts twice what belongs to a pair of trainings of two recipes,
and 2 (S - 1) / (S - 2) times what belongs to a pair of one recipe's S (Efron and Stein 1981, Annals of Statistics 9);
O takes the excess out, never below what is left if all of it belonged to pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from pcam_agreement.agreement.components import Layout, Networks, weights
from pcam_agreement.agreement.overlaps import Overlaps

LEVEL = 0.95
STEP = 1e-6  # of numerical derivatives; components are of the order of 0.1


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval and standard error; NaN where undefined, and then the reason why.

    variances: what the standard error is made of, by what another run may have others of: slides, trainings, untrained.
    """

    value: float
    low: float
    high: float
    standard_error: float
    reason: str = ""
    variances: dict[str, float] = field(default_factory=dict)


def undefined(reason: str) -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, np.nan, reason)


def jackknife_interval(value: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval [k], [k] of values [k] from those with each of g groups left out [g, k]; NaN of fewer than two."""
    count = len(without)
    if count < 2:
        return np.full((2, len(value)), np.nan)[0], np.full(len(value), np.nan)
    arm = stdtrit(count - 1, (1 + LEVEL) / 2) * np.sqrt(_variance(without))
    return value - arm, value + arm


def _variance(without: np.ndarray) -> np.ndarray:
    """The delete-one jackknife's variance of values with one left out [g, ...]."""
    count = len(without)
    return (count - 1) / count * ((without - without.mean(0)) ** 2).sum(0)


@dataclass(frozen=True)
class Replicates:
    """Components [c] of all data and with one left out: slides [g, c], each recipe's trainings, untrained networks.

    trainings: [s, c] a recipe that enters, none where it has fewer than three; pair_variance: of what belongs to a
    pair of trainings.
    """

    layout: Layout
    components: np.ndarray
    slides: np.ndarray
    trainings: list[np.ndarray]
    untrained: np.ndarray
    counts: list[int]  # trainings a recipe
    pair_variance: float

    @classmethod
    def of(cls, overlaps: Overlaps, repeated: Overlaps | None, layout: Layout, networks: Networks) -> "Replicates":
        """From the overlaps of all pairs and those of a stochastic method's repeats (see `decomposition.decompose`)."""
        values, without_slide = overlaps.patch_specific()
        groups = np.unique(overlaps.group)
        m = len(networks.recipes)
        noise, noise_without = np.zeros(2 * m), np.zeros((len(groups), 2 * m))
        if repeated is not None:
            noise, of_groups = repeated.patch_specific()
            noise_without[:] = noise  # leaving out a slide without repeated patches changes nothing
            noise_without[np.searchsorted(groups, np.unique(repeated.group))] = of_groups
        values, without_slide = np.append(values, noise), np.hstack([without_slide, noise_without])

        def components(without: tuple[int, ...] = ()) -> np.ndarray:
            return weights(layout, networks, overlaps.pairs, without) @ values

        trainings = [networks.trainings(recipe) for recipe in layout.recipes]
        untrained = networks.untrained()
        return cls(
            layout,
            components(),
            (weights(layout, networks, overlaps.pairs) @ without_slide.T).T,
            [np.array([components((i,)) for i in rows]) if len(rows) > 2 else np.empty((0, 0)) for rows in trainings],
            np.array([components((k,)) for k in untrained]).reshape(-1, layout.size),
            [len(rows) for rows in trainings],
            _pair_variance(_matrix(values, overlaps.pairs, m), trainings),
        )

    @property
    def covers(self) -> str:
        if not self.counts or len(self.slides) < 2:
            return ""
        return "trainings and slides" if min(self.counts) > 2 else "slides"

    @property
    def untrained_can_be_left_out(self) -> bool:
        blocks = self.layout.blocks
        needed = self.untrained[:, [*range(*blocks["input"].indices(self.layout.size)), blocks["untrained"].start]]
        return len(self.untrained) > 2 and bool(np.isfinite(needed).all())

    def estimate(self, quantity: Callable[[np.ndarray], np.ndarray], linear: bool) -> Estimate:
        """The value of a quantity of components [..., c] -> [...], and its interval.

        linear: take its derivatives where a training is left out, in place of the quantity of what is left: of three
        trainings, two leave a single pair, which a ratio must not be divided by.
        """
        value = float(quantity(self.components))
        if not np.isfinite(value):
            return undefined("it is not defined for these networks")
        gradient = self._gradient(quantity)
        uses_untrained = bool(gradient[[*self._rows("input"), *self._rows("imprint"), *self._rows("untrained")]].any())

        parts, degrees = {}, []
        if len(self.slides) > 1:
            parts["slides"] = float(_variance(quantity(self.slides)))
            degrees.append((len(self.slides) - 1) / 2)  # halved, since what slides add has heavy tails
        if self.covers == "trainings and slides":
            counts, without = np.array(self.counts), np.concatenate(self.trainings)
            replicated = np.nan_to_num(without) @ gradient if linear else quantity(without)
            of_recipes = np.split(replicated, counts.cumsum()[:-1])
            whole = np.array([float(_variance(of_recipe)) for of_recipe in of_recipes])
            least = float((whole * (counts - 2) / (2 * (counts - 1))).sum())  # all of it belongs to pairs
            parts["trainings"] = max(float(whole.sum()) - self._excess(gradient), least)
            degrees.append(float((counts - 1).sum()) / 2)  # halved, since the excess is estimated
        if uses_untrained and len(self.untrained) > 2:
            parts["untrained"] = float(_variance(quantity(self.untrained)))
            degrees.append(len(self.untrained) - 1.0)
        variance = sum(parts.values())
        if not parts or not np.isfinite(variance):
            few = "there are too few slides or networks for an interval"
            reason = "it is not defined without one of the slides or networks" if parts else few
            return Estimate(value, np.nan, np.nan, np.nan, reason)
        # Satterthwaite's degrees of freedom of a sum of variances
        squares = sum(part**2 / degree for part, degree in zip(parts.values(), degrees, strict=True))
        arm = float(stdtrit(variance**2 / squares, (1 + LEVEL) / 2)) * variance**0.5 if squares else 0.0
        return Estimate(value, value - arm, value + arm, variance**0.5, variances=parts)

    def _rows(self, block: str) -> range:
        return range(*self.layout.blocks[block].indices(self.layout.size))

    def _gradient(self, quantity: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The derivatives [c] of a quantity by components; 0 by those that are undefined."""
        steps = STEP * np.eye(self.layout.size)
        gradient = (quantity(self.components + steps) - quantity(self.components - steps)) / (2 * STEP)
        return np.nan_to_num(gradient)

    def _excess(self, gradient: np.ndarray) -> float:
        """What the jackknives over the trainings of all recipes count too often of what belongs to pairs of them."""
        counts = np.array(self.counts)
        a, b = np.array(self.layout.pairs, int).reshape(-1, 2).T
        between = 2 * gradient[self.layout.blocks["between"]] ** 2 / (2 * counts[a] * counts[b])  # once for each recipe
        within = gradient[self.layout.blocks["within"]] ** 2
        within *= 4 / (counts * (counts - 2)) - 2 / (counts * (counts - 1))
        return self.pair_variance * float(between.sum() + within.sum())


def _matrix(values: np.ndarray, pairs: np.ndarray, m: int) -> np.ndarray:
    matrix = np.zeros((m, m))
    i, j = pairs.T
    matrix[i, j] = matrix[j, i] = values[: len(pairs)]
    return matrix


def _pair_variance(overlap: np.ndarray, trainings: list[list[int]]) -> float:
    """The variance of what belongs to a pair of trainings: of the overlap less what follows from each of the two.

    Two-way residuals of the table of two recipes; of a recipe with four trainings or more those of C_ij = u_i + u_j.
    """
    squares, freedom = 0.0, 0
    for of_a, of_b in combinations(trainings, 2):
        table = overlap[np.ix_(of_a, of_b)]
        residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        squares += float((residuals**2).sum())
        freedom += (len(of_a) - 1) * (len(of_b) - 1)
    for rows in trainings:
        count = len(rows)
        if count > 3:
            i, j = np.triu_indices(count, 1)
            design = np.eye(count)[i] + np.eye(count)[j]
            values = overlap[np.ix_(rows, rows)][i, j]
            residuals = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
            squares += float((residuals**2).sum())
            freedom += len(i) - count
    return squares / freedom if freedom else 0.0
