"""What a field of a settings dataclass may hold: its type, and a range of its own.

A range is declared where the field is, and checked as the dataclass is made, so that
Python, the command line and JSON all pass through the same checks.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from glrnn.errors import UsageError

LARGEST_INTEGER = 2**31 - 1  # of JAX's integers


class Range(TypedDict):
    """The metadata of a field: which values it takes, and how to say so."""

    holds: Callable[[Any], bool]
    range: str


def at_least(low: float) -> Range:
    """Numbers from `low` on."""
    return {"holds": lambda value: value >= low, "range": f"at least {low}"}


def above(low: float) -> Range:
    """Numbers larger than `low`."""
    return {"holds": lambda value: value > low, "range": f"above {low}"}


def rate() -> Range:
    """The probability of dropping something: never all of it."""
    return {"holds": lambda value: 0 <= value < 1, "range": "a rate in [0, 1)"}


def choice(registry: Mapping[str, Any]) -> Range:
    """The names in a registry."""
    return {
        "holds": lambda value: value in registry,
        "range": "one of " + ", ".join(sorted(registry)),
    }


def check(settings: Any) -> None:
    """Checks every field of a dataclass; to be called by its `__post_init__`.

    A field of type `tuple[X, ...]` is checked element by element.

    Raises:
        UsageError: a field is not of its declared type, outside its range, or a number
            that no computation could use.

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
        else:
            values = (value,)
        for each in values:
            wanted = _wanted(each, hint, spec.metadata)
            if wanted:
                raise UsageError(f"{name} is {_shown(each)}; it must be {wanted}")


def _wanted(value: Any, hint: type, metadata: Mapping[str, Any]) -> str | None:
    """What a value must be and is not."""
    if type(value) not in ((int, float) if hint is float else (hint,)):
        return hint.__name__
    if type(value) is int and abs(value) > LARGEST_INTEGER:
        return f"at most {LARGEST_INTEGER}"
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    if metadata and not metadata["holds"](value):
        return metadata["range"]
    return None


def _shown(value: Any) -> str:
    """A value as an error shows it: one line, and not a long one."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python likes to write
        return "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
