"""Recipes, the blocks under `network` in params.yaml, each whole; and networks, which are trainings of recipes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcam_agreement.core.names import named, nearest
from pcam_agreement.core.renamed import refuse_old
from pcam_agreement.core.seeds import seed_of


@dataclass(frozen=True)
class Network:
    """One training of a recipe.

    training: a seed as text; or untrained, untrained_2, …: the recipe with new random weights that are not trained.
    """

    recipe: str
    training: str
    architecture: str

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.training}"

    @property
    def trained(self) -> bool:
        return not self.training.startswith("untrained")

    @property
    def seed(self) -> int:
        """Of all that differs between trainings: first weights, order of the patches, augmentation."""
        return seed_of(self.name)

    def path(self, folder: Path, suffix: str = "") -> Path:
        """Its file, or its folder where there is no suffix, in the folder of a stage."""
        return folder / self.recipe / (self.training + suffix)


def recipes(
    raw: Mapping[str, Any], names: Iterable[str] | None = None, origin: str = "params.yaml"
) -> dict[str, dict[str, Any]]:
    """Each block under `network` with the shared `train` block laid under it; of all names, or of these.

    Raises ValueError where `train`, `network` or a block is not a mapping, and where there is no block of a name.
    """
    shared, blocks = raw.get("train"), raw.get("network")
    for key, value in (("train", shared), ("network", blocks)):
        if not isinstance(value, Mapping):
            raise ValueError(f"{origin}: {key}: expected a mapping of settings, found {value!r}.")
    assert isinstance(shared, Mapping) and isinstance(blocks, Mapping)
    result = {}
    for name in blocks if names is None else names:
        if name not in blocks:
            raise ValueError(f"{origin}: unknown recipe '{name}'; {nearest(name, blocks)}")
        if not isinstance(blocks[name], Mapping):
            raise ValueError(f"{origin}: network.{name}: expected a mapping of settings, found {blocks[name]!r}.")
        result[name] = {**shared, **blocks[name]}
    return result


def networks(raw: Mapping[str, Any], origin: str = "params.yaml") -> list[Network]:
    """The networks of a run, `recipes` times `trainings`: recipe by recipe, the trained ones first.

    A recipe without epochs is a given network: of the seeds it has the first alone, unless its weights are a file for
    each, with {training} in the path.

    Raises ValueError where `recipes` or `trainings` is not a list of what it should be, and for an old file.
    """
    refuse_old(raw, origin)
    names = _listed(raw, "recipes", r".+", "the name of a block under network", origin)
    trainings = _trainings(raw, origin)
    result = []
    for name, recipe in recipes(raw, names, origin).items():
        of_recipe = [Network(name, training, str(recipe.get("architecture"))) for training in trainings]
        given = recipe.get("epochs") == 0 and "{training}" not in str(recipe.get("weights"))
        result += [network for network in of_recipe if not (given and network.trained and network != of_recipe[0])]
    return result


def find(raw: Mapping[str, Any], recipe: str, training: str) -> Network | None:
    """The network of these names; None where it is one of the trainings that a given network does not have.

    Raises ValueError where there is no such recipe, and where `trainings` does not name the training.
    """
    named("training", training, dict.fromkeys(_trainings(raw)))
    of_recipe = networks({**raw, "recipes": [recipe]})
    return next((network for network in of_recipe if network.training == training), None)


def _trainings(raw: Mapping[str, Any], origin: str = "params.yaml") -> list[str]:
    """`trainings` as text, the seeds first; ValueError where it is wrong."""
    pattern, expected = r"0|[1-9]\d*|untrained(_[1-9]\d*)?", "a seed (1, 2, …) or untrained, untrained_2, …"
    known = _listed(raw, "trainings", pattern, expected, origin)
    if known[0].startswith("untrained"):
        raise ValueError(f"{origin}: trainings begins with {known[0]}; begin with a seed (1, 2, …).")
    return sorted(known, key=lambda training: training.startswith("untrained"))


def _listed(raw: Mapping[str, Any], key: str, pattern: str, expected: str, origin: str) -> list[str]:
    """A list of the parameters as text; ValueError where it is none, is empty, or an entry is wrong or repeated."""
    values = raw.get(key)
    if not isinstance(values, list):
        raise ValueError(f"{origin}: {key}: expected a list, each {expected}, found {values!r}.")
    if not values:
        raise ValueError(f"{origin}: {key} is empty; name at least one.")
    texts = [str(value) for value in values]
    for text in texts:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{origin}: {key}: expected {expected}, found {text!r}.")
    repeated = {text for text in texts if texts.count(text) > 1}
    if repeated:
        raise ValueError(f"{origin}: {key} names {', '.join(sorted(repeated))} more than once.")
    return texts
