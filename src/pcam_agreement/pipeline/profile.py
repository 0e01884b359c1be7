"""A profile, a set of choices laid over params.yaml, as flags of `dvc exp run`.

dvc exp run $(python -m pcam_agreement.pipeline.profile profiles/seed.yaml)
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pcam_agreement.core import command
from pcam_agreement.core.settings import read_params
from pcam_agreement.pipeline.params import check_params


def main(args: Namespace) -> None:
    yaml = YAML(typ="safe", pure=True)
    try:
        overlay = yaml.load(args.profile)
        check_params(laid_over(read_params(args.params), overlay), str(args.profile))
        print(" ".join(f"-S {flag}" for flag in flags(overlay)))
    except (YAMLError, ValueError, OSError) as error:
        print("--profile-is-wrong")  # DVC refuses it; without any flag it would run the default experiment
        if isinstance(error, YAMLError):
            raise ValueError(f"{args.profile} is not YAML: {error}; mend it.") from error
        raise


def laid_over(base: Any, overlay: Any) -> Any:
    """The base with the overlay's values in place of the base's, mappings key by key."""
    if not (isinstance(base, dict) and isinstance(overlay, dict)):
        return overlay
    return {**base, **{key: laid_over(base.get(key), value) for key, value in overlay.items()}}


def flags(overlay: dict, prefix: str = "") -> Iterator[str]:
    """key.path=value for every leaf, without blanks, in the grammar of `dvc exp run -S` (++ sets or adds)."""
    for key, value in overlay.items():
        if isinstance(value, dict):
            yield from flags(value, f"{prefix}{key}.")
        else:
            yield f"++{prefix}{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    if any(character.isspace() for character in text):
        raise ValueError(f"'{text}' has a blank, which the shell would split; set it in params.yaml itself.")
    return text


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path, help="a file of profiles/")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    command.run(main, parser)
