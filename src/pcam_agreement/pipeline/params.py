"""The whole of params.yaml, checked at once: every section, every name in it, and what does not go together.

A stage reads its own sections only; this reads all of them, once, before anything runs.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import create_model

from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.atlas.settings import Atlas
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.core import plugins
from pcam_agreement.core.names import nearest
from pcam_agreement.core.renamed import refuse_old
from pcam_agreement.core.settings import Count, Device, Seed, Settings, mapping, validated
from pcam_agreement.networks.hub import is_published, outputs, read_config
from pcam_agreement.networks.recipes import networks, recipes
from pcam_agreement.report.settings import Report
from pcam_agreement.training.settings import Recipe, Training


class Seeds(Settings):
    data: Seed
    training_patches: Seed
    explained_patches: Seed
    perturbation: Seed
    statistics: Seed


class Params(Settings):
    """The sections of the file but `data` and `method`, whose blocks are those of files (see `check_params`)."""

    device: Device
    threads: Count
    recipes: list[str]
    trainings: list[Any]  # see `networks.recipes.networks`
    methods: list[str]
    seeds: Seeds
    data: dict[str, Any]
    train: Training
    network: dict[str, Recipe]
    explain: Explanation
    method: dict[str, Any]
    faithfulness: Faithfulness
    agreement: Agreement
    report: Report
    atlas: Atlas


def check_params(raw: Any, origin: str = "params.yaml") -> Params:
    """Parameters from plain dictionaries and lists.

    Raises ValueError with one sentence that names the key, what was expected and the nearest known name.
    """
    raw = mapping(raw, origin)
    refuse_old(raw, origin)
    merged = dict(raw)
    if isinstance(raw.get("train"), Mapping) and isinstance(raw.get("network"), Mapping):
        merged["network"] = recipes(raw, origin=origin)
    params: Params = validated(merged, Params, origin=origin)
    _check_blocks(params.data, "data", plugins.SOURCES, "data source", origin, source=(str, ...))
    _check_blocks(params.method, "method", plugins.METHODS, "method", origin)
    _check_name(params.data["source"], "data source", "data.source", plugins.available(plugins.SOURCES), origin)
    _check_choice("recipe", params.recipes, list(params.network), origin)
    _check_choice("method", params.methods, list(params.method), origin)
    if len(chosen := networks(raw, origin)) < 2:
        raise ValueError(
            f"{origin}: recipes and trainings give only {chosen[0].name}; agreement needs at least two networks."
        )
    _check_recipes(params, origin)
    return params


def _check_blocks(blocks: dict[str, Any], key: str, package: str, kind: str, origin: str, **other: Any) -> None:
    """Validate each block by the Settings of the file of its name."""
    known = plugins.available(package)
    for name in blocks:
        if name not in known and name not in other:
            raise ValueError(f"{origin}: unknown setting {key}.{name}; {nearest(name, [*known, *other])}")
    fields: dict[str, Any] = {
        name: (plugins.load(package, kind, name).Settings, ...) for name in known if name in blocks
    }
    validated(blocks, create_model(key, __base__=Settings, **fields, **other), key, origin)


def _check_name(name: str, kind: str, key: str, known: list[str], origin: str) -> None:
    if name not in known:
        raise ValueError(f"{origin}: {key}: unknown {kind} '{name}'; {nearest(name, known)}")


def _check_choice(kind: str, chosen: list[str], known: list[str], origin: str) -> None:
    """Raise ValueError where `recipes` or `methods` is empty, repeats a name, or names what has no block."""
    if not chosen:
        raise ValueError(f"{origin}: {kind}s is empty; name at least one.")
    for name in chosen:
        if kind == "method" and name not in known and name in plugins.available(plugins.METHODS):
            raise ValueError(f"{origin}: method '{name}' in methods has a file but no block; add method.{name}.")
        if name not in known:
            raise ValueError(f"{origin}: unknown {kind} '{name}' in {kind}s; {nearest(name, known)}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{origin}: '{name}' becomes a path; use letters, digits, - and _ only.")
    repeated = {name for name in chosen if chosen.count(name) > 1}
    if repeated:
        raise ValueError(f"{origin}: {kind}s names {', '.join(sorted(repeated))} more than once.")


def _check_recipes(params: Params, origin: str) -> None:
    """Raise ValueError where the chosen recipes are the same, or cannot be built or explained."""
    for number, name in enumerate(params.recipes):
        recipe = params.network[name]
        same = [other for other in params.recipes[:number] if params.network[other] == recipe]
        if same:
            raise ValueError(
                f"{origin}: network.{same[0]} and network.{name} have the same settings and would be the same recipe; "
                f"leave one out of recipes, and add to trainings."
            )
        _check_architecture(recipe, name, origin)
        if recipe.epochs == 0:
            _check_given(recipe, name, origin)
        _check_methods(params, name, origin)


def _check_architecture(recipe: Recipe, name: str, origin: str) -> None:
    """Raise ValueError where there is no such architecture, it cannot take patches of this size, or lacks a layer."""
    # imports torch: after all that needs none
    from pcam_agreement.networks.classifier import Classifier, check_size, of_shapes

    def check_layers(network: Classifier) -> None:
        layers = list(dict(network.backbone.named_modules()))
        for layer in recipe.unfreeze:
            _check_name(layer, "layer", f"network.{name}.unfreeze", layers, origin)

    try:
        check_size(recipe.architecture, recipe.input, recipe.pooling, tuple(recipe.options.items()))
    except ValueError as error:
        raise ValueError(f"{origin}: network.{name}.architecture: {error}") from None
    if recipe.unfreeze:
        of_shapes(check_layers, recipe.architecture, recipe.input, recipe.pooling, recipe.options.items())


def _check_given(recipe: Recipe, name: str, origin: str) -> None:
    """Raise ValueError where a network that is not trained here has no weights, or a head of neither one nor two."""
    published = is_published(recipe.architecture) and recipe.weights == "default"
    if recipe.weights in ("none", "default") and not published:
        raise ValueError(
            f"{origin}: network.{name} has epochs 0, which is for a given network, whose weights are a path or come "
            f"with a published one, but weights {recipe.weights}; for an untrained network add untrained to trainings."
        )
    count, names = outputs(read_config(recipe.architecture)) if published else (None, [])
    if count not in (None, 1, 2):
        listed = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"{origin}: network.{name}: the head of {recipe.architecture} has {count} outputs{listed}, expected one or "
            "two, normal and tumour; set epochs to train a head of its own."
        )


def _check_methods(params: Params, name: str, origin: str) -> None:
    """Raise ValueError where a method cannot explain the networks of a recipe, by what its file says."""
    modules = {method: plugins.load(plugins.METHODS, "method", method) for method in params.methods}
    checks = {method: module.check_network for method, module in modules.items() if hasattr(module, "check_network")}
    if not checks:
        return
    from pcam_agreement.networks.classifier import Classifier, of_shapes  # imports torch

    def check_all(network: Classifier) -> None:
        for method, check in checks.items():
            try:
                check(network)
            except ValueError as error:
                raise ValueError(f"{origin}: {method} cannot explain {name}: {error}") from None

    recipe = params.network[name]
    of_shapes(check_all, recipe.architecture, recipe.input, recipe.pooling, recipe.options.items())
