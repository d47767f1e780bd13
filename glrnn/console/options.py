"""The words of a command line, and the options of a config in groups for `--help`."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from glrnn.config import Config
from glrnn.errors import UsageError

# Groups of fields by the name of the group. Fields that are in none are in REST.
GROUPS: Mapping[str, Sequence[str]] = {
    "network": (
        "embedding_size",
        "embedding_bound",
        "head",
        "num_softmaxes",
        "cutoffs",
        "sum_outputs",
        "inherit_head",
    ),
    "layers": ("layers",),
    "training": (),
    "regularization": (
        "activation_regularization",
        "temporal_activation_regularization",
        "weight_decay",
        "l2_penalty",
        "masks_per_step",
        "word_masks_per_sequence",
    ),
    "averaging": ("averaging",),
    "phases": ("phases",),
}
REST = "training"


def words(arguments: Sequence[str] | None) -> Sequence[str]:
    """The words of a command.

    Args:
        arguments: Words given from Python; `None` for those of `sys.argv`.

    Raises:
        UsageError: A word is empty, as that of a shell variable which is not set; it
            would be taken for a default.

    Example:
        >>> words(["runs/mine", ""])
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: word 2 of the command is empty: is a variable unset?
    """
    found = sys.argv[1:] if arguments is None else arguments
    if "" in found:
        number = found.index("") + 1
        raise UsageError(f"word {number} of the command is empty: is a variable unset?")
    return found


def grouped_options(config: Config) -> dict[str, tuple[Any, Any]]:
    """The fields of a config, in groups that tyro shows a box each for.

    tyro groups options by the prefix of their names. `OmitArgPrefixes` leaves the
    prefix in the title of the box and takes it from the names. `layers`,
    `averaging` and `phases` are boxes of their own and keep it.

    Args:
        config: Its values are the defaults.

    Returns:
        For each name in `GROUPS` the type and the default of a field for tyro.

    Example:
        >>> options = grouped_options(Config(seed=3))
        >>> list(options)
        ['network', 'layers', 'training', 'regularization', 'averaging', 'phases']
        >>> options["training"][1].seed
        3
    """
    import tyro

    hints = get_type_hints(Config)
    named = {name for names in GROUPS.values() for name in names}
    rest = [spec.name for spec in fields(Config) if spec.name not in named]
    options: dict[str, tuple[Any, Any]] = {}
    for group, names in GROUPS.items():
        if group in hints:
            options[group] = hints[group], getattr(config, group)
            continue
        names = (*names, *rest) if group == REST else names
        kind = make_dataclass(
            group,
            [
                (name, hints[name], field(default=getattr(config, name)))
                for name in names
            ],
            frozen=True,
        )
        # tyro reads the help of each field here; an empty first line leaves the box
        # without a description.
        kind.__doc__ = f"\n{(inspect.getdoc(Config) or '').partition(chr(10))[2]}"
        options[group] = Annotated[kind, tyro.conf.OmitArgPrefixes], kind()
    return options


def config_of(options: Mapping[str, Any]) -> Config:
    """The config whose fields were given in groups.

    Args:
        options: For each name in `GROUPS` what tyro made of `grouped_options`.

    Raises:
        UsageError: as `Config` does.

    Example:
        >>> options = grouped_options(Config(seed=3))
        >>> config_of({name: value for name, (_, value) in options.items()}).seed
        3
    """
    values: dict[str, Any] = {}
    for group, value in options.items():
        values |= {group: value} if group in GROUPS[group] else vars(value)
    return Config(**values)
