"""params.yaml as typed, validated settings: a mistake is one sentence that names the key and the nearest known one."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pcam_agreement.core.names import nearest

Finite = Field(allow_inf_nan=False)
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Level = Annotated[float, Field(ge=0), Finite]
Positive = Annotated[float, Field(gt=0), Finite]
Seed = Annotated[int, Field(ge=0)]
Device = Literal["auto", "cpu", "cuda"]
AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)  # -S writes 16 without quotes


class Settings(BaseModel):
    """A block of params.yaml. Every key must be there: its one default is the value in that file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """The whole file as plain dictionaries and lists; ValueError where it is missing or no mapping."""
    try:
        raw = YAML(typ="safe", pure=True).load(path)  # YAML 1.2, in which 1e-05, as DVC writes it, is a number
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; run from the top of the repository.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return mapping(raw, str(path))


def mapping(raw: Any, origin: str = "params.yaml") -> dict[str, Any]:
    """Parameters as they are, checked to be a mapping."""
    if not isinstance(raw, dict):
        raise ValueError(f"{origin}: expected a mapping of settings, found {type(raw).__name__}.")
    return raw


def section(raw: Mapping[str, Any], key: str, kind: Any, origin: str = "params.yaml") -> Any:
    """The section of this key (dots go down), validated as this kind: a class of settings or an annotated type.

    Raises ValueError with one sentence that names the key, what was expected and the nearest known name.
    """
    value: Any = raw
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"{origin}: {key} is missing.")
        value = value[part]
    return validated(value, kind, key, origin)


def validated(value: Any, kind: Any, key: str = "", origin: str = "params.yaml") -> Any:
    """A value as this kind; the sentences of `section`."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{origin}: {_sentence(error, key, kind)}") from None


def _sentence(error: ValidationError, key: str, kind: Any) -> str:
    """The first problem that pydantic names, in one sentence; an unknown key before one that is missing for it."""
    problems = error.errors()
    problem = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    where = ".".join([*filter(None, [key]), *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {where}; {nearest(str(problem['loc'][-1]), _known_keys(kind, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{where} is missing."
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}."
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        hint = "; " + nearest(problem["input"], re.findall(r"'([^']+)'", problem["msg"]))
    return f"{where}: {expected}, found {problem['input']!r}{hint}".rstrip(".") + ("" if hint.endswith("?") else ".")


def _known_keys(kind: Any, loc: tuple[Any, ...]) -> list[str]:
    """The keys that a class of settings knows at this place."""
    for key in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[key].annotation
        else:
            kind = get_args(kind)[-1]  # a dictionary's values
    return list(kind.model_fields)
