"""Dataclasses of settings: checks of their fields, and JSON in and out.

A range is declared with its field and checked when the dataclass is made, so that
Python, the command line and JSON all pass through the same checks.
"""

import dataclasses
import json
import math
import operator
import typing
from collections.abc import Callable, Collection, Mapping
from types import NoneType
from typing import Any, NotRequired, TypedDict, TypeVar

from glrnn.errors import UsageError

Settings = TypeVar("Settings")

# The limits of JAX's numbers, which have 32 bits.
LARGEST_INTEGER = 2**31 - 1
SMALLEST_FLOAT, LARGEST_FLOAT = 2.0**-126, 2.0**127
# The largest number of settings in one list: each of them takes time to check.
MOST_IN_A_LIST = 1_000


class Range(TypedDict):
    """The metadata of a field: which values it accepts, and their description.

    A number that was `measured` may be larger or smaller than what JAX computes with.
    """

    holds: Callable[[Any], bool]
    range: str
    measured: NotRequired[bool]


def at_least(low: float) -> Range:
    """Numbers not below `low`."""
    return {"holds": lambda value: value >= low, "range": f"at least {low}"}


def between(low: float, high: float) -> Range:
    """Numbers from `low` to `high`."""
    return {
        "holds": lambda value: low <= value <= high,
        "range": f"between {low} and {high}",
    }


def measured(low: float = -math.inf) -> Range:
    """Any finite number not below `low`: what was seen, not what is computed with."""
    return {
        "holds": lambda value: math.isfinite(value) and value >= low,
        "range": "a finite number" + (f", at least {low}" if low > -math.inf else ""),
        "measured": True,
    }


def above(low: float) -> Range:
    """Numbers larger than `low`."""
    return {"holds": lambda value: value > low, "range": f"above {low}"}


def rate() -> Range:
    """A probability of dropping: below 1, so that something is left."""
    return {"holds": lambda value: 0 <= value < 1, "range": "a rate in [0, 1)"}


def choice(names: Collection[str]) -> Range:
    """One of the given names."""
    return {
        "holds": lambda value: value in names,
        "range": "one of " + ", ".join(sorted(names)),
    }


def check(settings: Any) -> None:
    """Checks every field of a dataclass; call it in `__post_init__`.

    A field of type `tuple[X, ...]` or `dict[str, X]` is checked element by element, and
    one of type `X | None` unless it is None.

    Raises:
        UsageError: if a field does not have its declared type, is outside its range, or
            is a number that cannot be computed with.

    Example:
        >>> @dataclasses.dataclass
        ... class Walk:
        ...     steps: int = dataclasses.field(default=1, metadata=at_least(1))
        >>> check(Walk(0))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: Walk.steps is 0; it must be at least 1
    """
    owner = type(settings).__name__
    hints = typing.get_type_hints(type(settings))
    for spec in dataclasses.fields(settings):
        value, hint = getattr(settings, spec.name), hints[spec.name]
        name = f"{owner}.{spec.name}"
        if typing.get_origin(hint) is tuple:
            if not isinstance(value, tuple):
                raise UsageError(f"{name} is {value!r}; it must be a tuple")
            hint, values = typing.get_args(hint)[0], value
        elif typing.get_origin(hint) is dict:
            if not isinstance(value, dict):
                raise UsageError(f"{name} is {shown(value)}; it must be a dict")
            hint, values = typing.get_args(hint)[1], value.values()
        else:
            values = (value,)
        for each in values:
            wanted = _wanted(each, hint, spec.metadata)
            if wanted:
                raise UsageError(f"{name} is {shown(each)}; it must be {wanted}")


def _wanted(value: Any, hint: Any, metadata: Mapping[str, Any]) -> str | None:
    """A description of what a value must be, or None if it is that."""
    alternatives = typing.get_args(hint)
    if NoneType in alternatives:
        if value is None:
            return None
        hint = alternatives[0]
    if (
        isinstance(hint, type)
        and dataclasses.is_dataclass(hint)
        and isinstance(value, hint)
    ):
        # A subclass could not be read back from the file of a run.
        return None if type(value) is hint else f"{hint.__name__} and no subclass of it"
    kinds = (int, float) if hint is float else hint
    # In Python a boolean is an integer.
    if not isinstance(value, kinds) or (type(value) is bool and hint is not bool):
        return hint.__name__
    if type(value) is int and abs(value) > LARGEST_INTEGER:
        return f"at most {LARGEST_INTEGER}"
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    computed = hint is float and not metadata.get("measured")
    if value and computed and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        return f"0 or between {SMALLEST_FLOAT:.3g} and {LARGEST_FLOAT:.3g} in size"
    if metadata and not metadata["holds"](value):
        return metadata["range"]
    return None


def check_integers(what: str, *values: Any) -> None:
    """Refuses floats, which cannot count, and booleans, which Python counts with.

    Raises:
        UsageError: One is no integer.

    Example:
        >>> check_integers("batch size", 2.0)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the batch size must be an integer, got 2.0
    """
    for value in values:
        try:
            if isinstance(value, bool):
                raise TypeError
            operator.index(value)
        except TypeError:
            raise UsageError(
                f"the {what} must be an integer, got {shown(value)}"
            ) from None


def shown(value: Any) -> str:
    """A value as an error shows it: at most one short line.

    Example:
        >>> shown("x" * 100) == "'" + "x" * 56 + "..."
        True
    """
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python converts to text
        return "a huge number"
    except RecursionError:
        return "a value in many brackets"
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_json(settings: Any) -> str:
    """Writes a dataclass of settings as JSON text, with every default spelled out.

    Example:
        >>> @dataclasses.dataclass
        ... class Walk:
        ...     steps: int = 1
        >>> print(to_json(Walk()), end="")
        {
          "steps": 1
        }
    """
    return json.dumps(dataclasses.asdict(settings), indent=2) + "\n"


def from_values(kind: type[Settings], values: Any, what: str) -> Settings:
    """The settings that `to_json` wrote; missing fields take their defaults.

    Args:
        kind: The dataclass of the settings, which checks itself.
        values: The value that the JSON text was parsed to.
        what: What the values should be, for the error: `a config`.

    Raises:
        UsageError: if the values are not a JSON object, lack a field without a default,
            or have a field that is unknown or invalid; the message says which and
            where.

    Example:
        >>> @dataclasses.dataclass
        ... class Walk:
        ...     steps: int = 1
        >>> from_values(Walk, {"steps": 3}, "a walk")
        Walk(steps=3)
        >>> from_values(Walk, {"stops": 3}, "a walk")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: not a walk: extra fields found (stops) @ walk
    """
    import cattrs

    converter = cattrs.Converter(forbid_extra_keys=True)
    for plain in (bool, int, float, str, float | None):  # cattrs turns 3.9 into 3
        converter.register_structure_hook(plain, lambda value, _: value)
    if not isinstance(values, dict):
        raise UsageError(f"not {what}: {json.dumps(values):.40} is no JSON object")
    for name, hint in typing.get_type_hints(kind).items():
        value = values.get(name)
        listed = any(map(dataclasses.is_dataclass, typing.get_args(hint)))
        if listed and isinstance(value, list) and len(value) > MOST_IN_A_LIST:
            raise UsageError(
                f"not {what}: {name} has {len(value)} entries; it must have at most "
                f"{MOST_IN_A_LIST}"
            )
    try:
        return converter.structure(values, kind)
    except cattrs.BaseValidationError as error:
        place = what.split()[-1]
        reasons = cattrs.transform_error(error, place, format_exception=_reason)
        told = "; ".join(reasons)
        raise UsageError(
            f"not {what}: {told if len(told) <= 500 else f'{told[:500]}...'}"
        ) from None


def _reason(error: BaseException, kind: type | None) -> str:
    from cattrs.v import format_exception

    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, AttributeError) and kind is not None:  # not a JSON object
        return f"invalid value for type, expected {getattr(kind, '__name__', kind)}"
    return format_exception(error, kind)


def differences(stored: Any, given: Any, path: str = "") -> list[str]:
    """The differences between two settings, one line for each field.

    Example:
        >>> @dataclasses.dataclass
        ... class Walk:
        ...     steps: int = 1
        >>> differences(Walk(1), Walk(2))
        ['steps is 1 there, 2 here']
    """
    if dataclasses.is_dataclass(stored):
        pairs = [
            (
                f"{path}.{spec.name}",
                getattr(stored, spec.name),
                getattr(given, spec.name),
            )
            for spec in dataclasses.fields(stored)
        ]
    elif isinstance(stored, tuple) and len(stored) == len(given):
        pairs = [
            (f"{path}.{index}", *both)
            for index, both in enumerate(zip(stored, given, strict=True))
        ]
    elif isinstance(stored, tuple) and any(map(dataclasses.is_dataclass, stored)):
        sizes = len(stored), len(given)
        return [f"{path.lstrip('.')} has {sizes[0]} entries there, {sizes[1]} here"]
    else:
        equal = stored == given
        return [] if equal else [f"{path.lstrip('.')} is {stored} there, {given} here"]
    return [line for name, *two in pairs for line in differences(two[0], two[1], name)]
