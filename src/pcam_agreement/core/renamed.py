"""Keys of params.yaml of before recipes had trainings, and what they are called now."""

from collections.abc import Mapping
from typing import Any

GONE = {
    "networks": "is now `recipes`, blocks of `network`, and `trainings`, their seeds and untrained",
    "tested": "is gone: faithfulness is of each recipe's first training and first untrained one",
    "seed": "is now `seeds`, one for each thing that is random",
    "agreement.curve": "is now agreement.fractions",
}


def refuse_old(raw: Mapping[str, Any], origin: str = "params.yaml") -> None:
    """Raise ValueError, with what it is called now, where a key is one of before."""
    blocks = {"": raw, "agreement.": raw.get("agreement")}
    keys = {prefix + key for prefix, block in blocks.items() if isinstance(block, Mapping) for key in block}
    for key, now in GONE.items():
        if key in keys:
            raise ValueError(f"{origin}: {key} {now}; CHANGELOG.md says how an old file is brought over.")
    network = raw.get("network")
    for name, block in network.items() if isinstance(network, Mapping) else ():
        if isinstance(block, Mapping) and "seed" in block:
            raise ValueError(
                f"{origin}: network.{name}.seed is gone: `trainings` are the seeds of every block; remove it, and the "
                "block where it differs from another in its seed alone; CHANGELOG.md says more."
            )
