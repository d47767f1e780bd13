"""What is an extension of a run, and what is another run."""

from dataclasses import replace

import pytest

from glrnn.config import Config, Layer, Phase, Stage
from glrnn.config.extension import extends

STAGE = Stage(3, patience=2)


def config(*phases, **changes):
    layers = (Layer(hidden_size=128),) * len(phases)
    return Config(**{"layers": layers, "phases": phases} | changes)


def phase(main=STAGE, finetune=STAGE, **changes):
    return Phase(main=main, finetune=finetune, **changes)


SHORT = config(phase())
TIMED = config(phase(finetune=Stage(9, minutes=2.0)))


def with_finetune(**changes):
    return config(phase(finetune=replace(STAGE, **changes)))


@pytest.mark.parametrize(
    ("longer", "short"),
    [
        (SHORT, SHORT),
        (with_finetune(epochs=4), SHORT),
        (with_finetune(patience=3), SHORT),
        (with_finetune(patience=0), SHORT),
        (config(phase(finetune=Stage(9, minutes=3.0))), TIMED),
        (SHORT, config(phase(finetune=Stage()))),
        (SHORT, config(phase(replace(STAGE, epochs=2), Stage()))),
        (Config(), replace(Config(), layers=(Layer(),), phases=Config().phases[:1])),
    ],
)
def test_more_at_the_end_is_an_extension(longer, short):
    assert extends(longer, short)
    assert longer == short or not extends(short, longer)


@pytest.mark.parametrize(
    ("other", "earlier"),
    [
        (with_finetune(learning_rate=1.0), SHORT),
        (with_finetune(patience=1), SHORT),
        (with_finetune(minutes=5.0), SHORT),  # other rules would not end it any more
        (config(phase(finetune=Stage(9))), TIMED),  # and would end it, here
        (config(phase(replace(STAGE, epochs=4))), SHORT),
        (config(phase(), seed=1), SHORT),
        (config(phase(), head="mixture"), SHORT),
        (config(phase(), layers=(Layer("gru"),)), config(phase())),
    ],
)
def test_what_changes_the_rest_is_another_run(other, earlier):
    assert not extends(other, earlier)
