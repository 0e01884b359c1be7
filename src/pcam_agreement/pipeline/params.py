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
from pcam_agreement.core.settings import Count, Device, Seed, Settings, mapping, validated
from pcam_agreement.networks.recipes import recipes
from pcam_agreement.report.settings import Report
from pcam_agreement.training.settings import Network, Training


class Params(Settings):
    """The sections of the file but `data` and `method`, whose blocks are those of files (see `check_params`)."""

    seed: Seed
    device: Device
    threads: Count
    networks: list[str]
    methods: list[str]
    tested: list[str]
    data: dict[str, Any]
    train: Training
    network: dict[str, Network]
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
    merged = dict(raw)
    if isinstance(raw.get("train"), Mapping) and isinstance(raw.get("network"), Mapping):
        merged["network"] = recipes(raw, origin=origin)
    params: Params = validated(merged, Params, origin=origin)
    _check_blocks(params.data, "data", plugins.SOURCES, "data source", origin, source=(str, ...))
    _check_blocks(params.method, "method", plugins.METHODS, "method", origin)
    _check_name(params.data["source"], "data source", "data.source", plugins.available(plugins.SOURCES), origin)
    _check_choice("network", params.networks, list(params.network), origin)
    _check_choice("method", params.methods, list(params.method), origin)
    _check_networks(params, origin)
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
    """Raise ValueError where `networks` or `methods` is empty, repeats a name, or names what has no block."""
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


def _check_networks(params: Params, origin: str) -> None:
    """Raise ValueError where the chosen networks cannot be compared, built or explained."""
    if len(params.networks) < 2:
        raise ValueError(f"{origin}: networks names only {params.networks[0]}; agreement needs at least two.")
    for name in params.tested:
        _check_name(name, "network", "tested", params.networks, origin)
    for number, name in enumerate(params.networks):
        network = params.network[name]
        same = [other for other in params.networks[:number] if params.network[other] == network]
        if same:
            raise ValueError(
                f"{origin}: network.{same[0]} and network.{name} have the same settings and would be the same network; "
                f"give network.{name} another seed, or leave it out of networks."
            )
        _check_architecture(network, name, origin)
        if network.epochs == 0 and network.weights != "none":
            raise ValueError(
                f"{origin}: network.{name} has epochs 0 and is untrained (the floor), but weights "
                f"{network.weights}; set network.{name}.weights to none."
            )
        if "grad_cam" in params.methods:
            _check_grad_cam(params, name, origin)


def _check_architecture(network: Network, name: str, origin: str) -> None:
    """Raise ValueError where there is no such architecture, or it cannot take patches of this size."""
    from pcam_agreement.networks.classifier import check_size  # imports torch: after all that needs none

    try:
        check_size(network.architecture, network.input)
    except ValueError as error:
        raise ValueError(f"{origin}: network.{name}.architecture: {error}") from None


def _check_grad_cam(params: Params, name: str, origin: str) -> None:
    """Raise ValueError where the network's last map is a single pixel."""
    from pcam_agreement.networks.spatial import spatial_size  # imports torch

    network = params.network[name]
    if spatial_size(network.architecture, network.input) == 1:
        others = ", ".join(method for method in params.method if method != "grad_cam")
        larger = f"set network.{name}.input to architecture, or " if network.input == "native" else ""
        raise ValueError(
            f"{origin}: grad_cam cannot explain {name}, whose last map is a single pixel; {larger}use {others}."
        )
