"""Names in params.yaml and on the command line; an unknown one is answered with the nearest that is known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pcam_agreement.architectures import NETWORKS

if TYPE_CHECKING:
    from pcam_agreement.params import Params


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean …?' where a known name is close, else the list of known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."


def named(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """The entry of this name; raises ValueError with the nearest name where there is none."""
    if name not in known:
        raise ValueError(f"unknown {kind} '{name}'; {nearest(name, known)}")
    return known[name]


def check_architecture(name: str) -> None:
    """Raise ValueError unless the name is a row of NETWORKS or a model of timm."""
    if name.startswith("timm/"):
        import timm  # takes seconds to import, so only where a run uses it

        model = name.removeprefix("timm/")
        if not timm.is_model(model):
            raise ValueError(f"timm has no model '{model}'; {nearest(model, timm.list_models())}")
        weights = timm.list_pretrained(model.split(".")[0] + ".*")
        if "." in model and model not in weights:
            raise ValueError(f"timm has no weights '{model}'; {nearest(model, weights)}")
    elif name not in NETWORKS:
        raise ValueError(
            f"unknown architecture '{name}'; {nearest(name, NETWORKS)} Any timm model is reachable as timm/<name>."
        )


def check_chosen(params: Params, origin: str) -> None:
    """Raise ValueError where `networks` and `methods` choose what is not there, or what does not go together."""
    known_methods = list(type(params.method).model_fields)
    for kind, chosen, known in (
        ("network", params.networks, list(params.network)),
        ("method", params.methods, known_methods),
    ):
        if not chosen:
            raise ValueError(f"{origin}: {kind}s is empty; name at least one.")
        for name in chosen:
            if name not in known:
                raise ValueError(f"{origin}: unknown {kind} '{name}' in {kind}s; {nearest(name, known)}")
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"{origin}: '{name}' becomes a path; use letters, digits, - and _ only.")
        twice = {name for name in chosen if chosen.count(name) > 1}
        if twice:
            raise ValueError(f"{origin}: {kind}s names {', '.join(sorted(twice))} more than once.")
    if len(params.networks) < 2:
        raise ValueError(f"{origin}: networks names only {params.networks[0]}; agreement needs at least two.")
    for place, name in enumerate(params.networks):
        network = params.network[name]
        same = [other for other in params.networks[:place] if params.network[other] == network]
        if same:
            raise ValueError(
                f"{origin}: network.{same[0]} and network.{name} have the same settings and would be one network; "
                f"give network.{name} another seed, or leave it out of networks."
            )
        try:
            check_architecture(network.architecture)
        except ValueError as error:
            raise ValueError(f"{origin}: network.{name}.architecture: {error}") from None
        if network.epochs == 0 and network.weights != "none":
            raise ValueError(
                f"{origin}: network.{name} has epochs 0 and is untrained (the floor), but weights "
                f"{network.weights}; set network.{name}.weights to none."
            )
        row = NETWORKS.get(network.architecture)
        if "grad_cam" in params.methods and row and not row.native_map and network.input == "native":
            others = ", ".join(method for method in known_methods if method != "grad_cam")
            raise ValueError(
                f"{origin}: grad_cam cannot explain {name}, whose last map is one pixel at 96 pixels; set "
                f"network.{name}.input to architecture, or use {others}."
            )
