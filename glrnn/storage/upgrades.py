"""The small files of runs that earlier versions wrote, as they would be written now."""

from typing import Any

from glrnn.config import Config

# Fields of `Config` in version 0.1.0, and the fields of `Averaging` that they became.
AVERAGING = {
    "trigger": "trigger",
    "nonmonotonic": "window",
    "averaging_latest": "latest",
}
# Fields of a phase's summary that nothing needs any more.
DROPPED = {"metrics_offset"}


def upgraded(kind: type[Any], values: Any) -> Any:
    """The content of a run's JSON file, of any version, with the fields of now.

    Args:
        kind: The dataclass that the file holds.
        values: The value that the file was parsed to.

    Example:
        >>> upgraded(Config, {"nonmonotonic": 3, "seed": 1})
        {'seed': 1, 'averaging': {'window': 3}}
    """
    if not isinstance(values, dict):
        return values
    kept = {name: value for name, value in values.items() if name not in DROPPED}
    if kind is not Config:
        # An origin has a config in it.
        return {
            name: upgraded(Config, value) if name == "config" else value
            for name, value in kept.items()
        }
    if "averaging" in kept:
        return kept
    averaging = {new: kept.pop(old) for old, new in AVERAGING.items() if old in kept}
    return {**kept, "averaging": averaging} if averaging else kept
