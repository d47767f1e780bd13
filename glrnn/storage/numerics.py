"""Settings of precision and random numbers; a run keeps to those it began with."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

import jax

from glrnn.errors import UsageError
from glrnn.ground.devices import PRECISIONS
from glrnn.ground.validation import check, choice


@dataclass(frozen=True)
class Numerics:
    """What changes the numbers that a run learns, beside its config.

    All but the first are settings of JAX, by its names and with its defaults.

    Attributes:
        matmul_precision: The precision of matrix products in training, one of
            `devices.PRECISIONS`.
        enable_x64: Whether numbers have 64 bits.
        default_prng_impl: The random number generator.
        threefry_partitionable: Whether it is the version of Threefry that can be
            computed in parts.
        random_seed_offset: The number added to every seed.
    """

    matmul_precision: str = field(default="float32", metadata=choice(PRECISIONS))
    enable_x64: bool = False
    default_prng_impl: str = "threefry2x32"
    threefry_partitionable: bool = True
    random_seed_offset: int = 0

    def __post_init__(self):
        check(self)


NAMES = tuple(spec.name for spec in fields(Numerics))


def numerics(matmul_precision: str = "float32") -> Numerics:
    """The settings of this process.

    Args:
        matmul_precision: The precision of matrix products in training.

    Example:
        >>> numerics().default_prng_impl
        'threefry2x32'
    """
    usual, (_, *names) = Numerics(), NAMES
    return Numerics(
        matmul_precision,
        **{
            name: getattr(jax.config, f"jax_{name}", getattr(usual, name))
            for name in names
        },
    )


def unusual(settings: Numerics) -> list[str]:
    """The settings that are not the defaults, as a person gives them.

    Example:
        >>> unusual(Numerics("bfloat16", enable_x64=True))
        ['--matmul-precision bfloat16', 'JAX_ENABLE_X64=1']
    """
    usual = Numerics()
    return [
        _given(name, settings)
        for name in NAMES
        if getattr(settings, name) != getattr(usual, name)
    ]


def require_same(
    folder: Path,
    began: Numerics | None,
    here: Numerics,
    names: Collection[str] = NAMES,
) -> None:
    """Refuses to continue a run with other settings than it began with.

    Args:
        folder: The run's folder.
        began: The settings that it began with; `None` if they are not known.
        here: The settings now.
        names: The names of the settings that matter.

    Raises:
        UsageError: A setting is another one.
    """
    for name in names:
        if began is not None and getattr(began, name) != getattr(here, name):
            there = _given(name, began)
            raise UsageError(
                f"{folder} was begun with {there}, and here it is "
                f"{_spelled(getattr(here, name))}; a run keeps to one: give {there}"
            )


def _given(name: str, settings: Numerics) -> str:
    """A setting as it is given: an option, or an environment variable."""
    value = _spelled(getattr(settings, name))
    if name == "matmul_precision":
        return f"--matmul-precision {value}"
    return f"JAX_{name.upper()}={value}"


def _spelled(value: str | int) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
