"""How often the 95 % intervals of the shares, R and the number of trainings hold the truth, by simulation.

python benchmarks/coverage.py [--replicates 1000] [--processes 2]

Each replicate draws other trainings of other recipes on other slides, from a model whose shares are known, and prints
for each setting the coverage, the median half-width and the best possible one: 1.96 standard deviations of the
estimates.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from threadpoolctl import threadpool_limits

from pcam_agreement.agreement.components import Networks
from pcam_agreement.agreement.decomposition import Decomposition, decompose
from pcam_agreement.agreement.overlaps import all_pairs, repeat_pairs, slide_groups, sum_overlaps

PIXELS = 48


@dataclass(frozen=True)
class Model:
    """Masks as vectors, sums of fields that depend on the patch and are stronger on some slides than on others.

    A field's number is its standard deviation, so that its square is its part of C. common: of what all trained
    networks follow, each by a factor of its own (follows: that factor's standard deviation); input: what untrained
    networks follow too; recipe: of what the trainings of a recipe follow; training: of what belongs to one, a random
    mixture of `modes` fields that all trainings have, and of as many that a recipe's have (apart: their share), so that
    two trainings are more alike than another two; noise: of a stochastic method.
    """

    recipes: int = 3
    trainings: int = 3
    slides: int = 20
    patches: int = 4  # a slide
    common: float = 0.5
    follows: float = 0.3
    input: float = 0.3
    recipe: float = 0.35
    training: float = 0.7
    modes: int = 30
    apart: float = 0.5
    noise: float = 0.3
    spread: float = 0.4  # of the logarithm of a slide's strength

    def truth(self) -> dict[str, float]:
        """Shares, R and trainings needed of infinitely many trainings and slides."""
        learned, seen, recipe = self.common**2, self.input**2, self.recipe**2
        total = learned * (1 + self.follows**2) + seen + recipe + self.training**2 + self.noise**2
        reliability = (learned + seen + recipe) / total
        return {
            "common": (learned + seen) / total,
            "input": seen / total,
            "learned": learned / total,
            "recipe": recipe / total,
            "training": 1 - reliability - self.noise**2 / total,
            "noise": self.noise**2 / total,
            "R": (learned + seen) / (learned + seen + recipe),
            "R_learned": learned / (learned + recipe),
            "trainings_needed": 4 * (1 / reliability - 1),
        }

    def simulate(self, seed: int) -> Decomposition:
        """The decomposition of one draw of recipes, trainings and slides, with an untrained network a recipe."""
        rng = np.random.default_rng(seed)
        slides = np.repeat(np.arange(self.slides), self.patches)
        labels = rng.integers(0, 2, len(slides))

        def field(*count: int) -> np.ndarray:
            strength = np.exp(self.spread * rng.standard_normal((*count, self.slides)) - self.spread**2)
            values = rng.standard_normal((*count, len(slides), PIXELS), np.float32) / np.sqrt(PIXELS)
            return values * strength[..., slides, None]

        def mixture(fields: np.ndarray) -> np.ndarray:
            return np.tensordot(rng.standard_normal(self.modes) / np.sqrt(self.modes), fields, 1)

        bias = rng.standard_normal((2, PIXELS)) / np.sqrt(PIXELS)  # of the label: not specific to a patch
        common, seen, modes = self.common * field(), field(), field(self.modes)
        maps, recipes = [], []
        for recipe in range(self.recipes):
            of_recipe, own_modes = self.recipe * field(), field(self.modes)
            for _ in range(self.trainings):
                follows = 1 + self.follows * rng.standard_normal()
                training = np.sqrt(1 - self.apart) * mixture(modes) + np.sqrt(self.apart) * mixture(own_modes)
                maps.append(follows * common + self.input * seen + of_recipe + self.training * training)
                recipes.append(str(recipe))
        for recipe in range(self.recipes):
            maps.append(0.6 * (seen + field()))
            recipes.append(str(recipe))
        trained = self.recipes * self.trainings
        once, again = (
            np.array([bias[labels] + values + self.noise * field() for values in maps], np.float32) for _ in range(2)
        )
        networks = Networks(recipes, recipes, [row < trained for row in range(len(maps))])
        both, groups = np.concatenate([once, again]), slide_groups(slides)

        def sums(masks: np.ndarray, pairs: np.ndarray):
            return sum_overlaps(lambda rows: masks[:, rows], 1, pairs, labels, slides, groups)

        return decompose(sums(once, all_pairs(len(maps))), networks, sums(both, repeat_pairs(len(maps))))


def estimates(model: Model, seed: int) -> list[tuple[float, float, float]]:
    """Value and interval of everything in `truth`, of one draw."""
    with threadpool_limits(1):
        result = model.simulate(seed)
    every = {
        **result.shares,
        "R": result.R,
        "R_learned": result.R_learned,
        "trainings_needed": result.trainings_needed,
    }
    return [(every[name].value, every[name].low, every[name].high) for name in model.truth()]


def coverage(drawn: np.ndarray, model: Model) -> Iterator[tuple[str, float, float, float, float, float]]:
    """Of each quantity: truth, median estimate, coverage, median half-width, best half-width.

    drawn: `estimates` of each replicate, [replicates, quantities, 3].
    """
    for (name, truth), (value, low, high) in zip(model.truth().items(), drawn.transpose(1, 2, 0), strict=True):
        known = np.isfinite(value) & ~np.isnan(low)
        value, low, high = value[known], low[known], high[known]
        inside = float(((low <= truth) & (truth <= high)).mean())
        yield name, truth, float(np.median(value)), inside, float(np.median(high - low) / 2), 1.96 * float(value.std())


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    pool = ProcessPoolExecutor(args.processes)
    print("| recipes x trainings, slides | | truth | median | coverage | half-width | best |")
    print("|---|---|---|---|---|---|---|")
    for recipes, trainings, slides in product((3, 8), (3, 5), (12, 100)):
        model = Model(recipes, trainings, slides, patches=4 if slides == 12 else 2)
        drawn = list(pool.map(partial(estimates, model), range(args.replicates), chunksize=10))
        for name, *numbers in coverage(np.array(drawn), model):
            values = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {recipes} x {trainings}, {slides} | {name} | {values} |", flush=True)


if __name__ == "__main__":
    main()
