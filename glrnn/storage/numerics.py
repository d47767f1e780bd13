"""JAX's settings that change what a run learns; a run keeps to those it began with."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

import jax

from glrnn.errors import UsageError
from glrnn.validation import check


@dataclass(frozen=True)
class Numerics:
    """JAX's settings of precision and random numbers, by JAX's names and defaults.

    Attributes:
        enable_x64: Whether numbers have 64 bits.
        default_prng_impl: The random number generator.
        threefry_partitionable: Whether it is the version of Threefry that can be
            computed in parts.
        random_seed_offset: The number added to every seed.
    """

    enable_x64: bool = False
    default_prng_impl: str = "threefry2x32"
    threefry_partitionable: bool = True
    random_seed_offset: int = 0

    def __post_init__(self):
        check(self)


NAMES = tuple(spec.name for spec in fields(Numerics))


def numerics() -> Numerics:
    """JAX's settings in this process.

    Example:
        >>> numerics().default_prng_impl
        'threefry2x32'
    """
    usual = Numerics()
    return Numerics(
        **{n: getattr(jax.config, f"jax_{n}", getattr(usual, n)) for n in NAMES}
    )


def variables(settings: Numerics) -> list[str]:
    """The environment variables of the settings that are not JAX's defaults.

    Example:
        >>> variables(Numerics(enable_x64=True))
        ['JAX_ENABLE_X64=1']
    """
    usual = Numerics()
    return [
        f"JAX_{name.upper()}={_spelled(getattr(settings, name))}"
        for name in NAMES
        if getattr(settings, name) != getattr(usual, name)
    ]


def require_same(
    folder: Path, began: Numerics | None, names: Collection[str] = NAMES
) -> None:
    """Refuses to continue a run with other settings than it began with.

    Args:
        folder: The run's folder.
        began: The settings that it began with; `None` if they are not known.
        names: The names of the settings that matter.

    Raises:
        UsageError: A setting is another one.
    """
    here = numerics()
    for name in names:
        if began is not None and getattr(began, name) != getattr(here, name):
            variable = f"JAX_{name.upper()}"
            there, now = (_spelled(getattr(each, name)) for each in (began, here))
            raise UsageError(
                f"{folder} was begun with {variable}={there}, and here it is {now}; "
                f"a run keeps to one: set {variable}={there}"
            )


def _spelled(value: str | int) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
