"""What an experiment is compared with differs in what it names and nothing else."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glrnn.cells import CELLS
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.config.variants import (
    VARIANTS,
    first_epochs,
    random_softmax,
    reference,
    resized,
    two_layers,
    with_learning_rate,
    without_finetuning,
    without_gl,
    without_lwgc,
)
from glrnn.errors import UsageError
from glrnn.ground.validation import differences


def phase(num_layers, epochs, finetune_epochs):
    limits = (0.3, *(0.4,) * num_layers, 1.2)
    return Phase(
        num_layers,
        Dropout(input=0.1 * num_layers, hidden=(0.1,) * (num_layers - 1), latent=0.2),
        main=Stage(epochs, 10.0 + num_layers, limits),
        finetune=Stage(finetune_epochs, 20.0, limits),
    )


CONFIG = Config(
    layers=(Layer(hidden_size=8),) * 3,
    head="mixture",
    num_softmaxes=2,
    phases=(phase(1, 3, 2), phase(2, 4, 1), phase(3, 5, 6)),
)


def changes(config):
    """The fields that differ, by path."""
    return {line.split()[0] for line in differences(CONFIG, config)}


def test_two_layers_is_the_beginning():
    config = two_layers(CONFIG)
    assert config.phases == CONFIG.phases[:2]
    assert config.layers == CONFIG.layers[:2]
    assert changes(config) == {"layers", "phases"}


def test_without_finetuning_the_last_phase_has_none():
    assert changes(without_finetuning(CONFIG)) == {"phases.2.finetune.epochs"}


def test_without_lwgc_one_norm_is_that_of_all_limits():
    config = without_lwgc(CONFIG)
    assert changes(config) == {
        f"phases.{i}.{stage}.max_norms" for i in range(3) for stage in STAGES
    }
    for number, each in enumerate(config.phases, 1):
        norm = math.sqrt(0.3**2 + number * 0.4**2 + 1.2**2)
        assert each.main.max_norms == each.finetune.max_norms == pytest.approx((norm,))
    assert without_lwgc(config) == config


STAGES = ("main", "finetune")


def test_without_gl_is_the_last_phase_with_all_epochs():
    config = without_gl(CONFIG)
    assert changes(config) == {"phases"}
    (only,) = config.phases
    last = CONFIG.phases[-1]
    assert (only.main.epochs, only.finetune.epochs) == (12, 9)
    assert replace(only.main, epochs=5) == last.main
    assert replace(only.finetune, epochs=6) == last.finetune
    assert (only.dropout, only.num_layers) == (last.dropout, 3)


def test_the_reference_has_neither_gl_nor_lwgc_nor_finetuning():
    (only,) = reference(CONFIG).phases
    assert only.main == Stage(21, 13.0, (0.25,))
    assert only.finetune == Stage()
    assert only.dropout == CONFIG.phases[-1].dropout


def test_a_random_softmax_is_not_inherited():
    assert changes(random_softmax(CONFIG)) == {"inherit_head"}
    with pytest.raises(UsageError, match="no weights of its own"):
        random_softmax(Config())


def test_every_variant_can_be_named():
    made = {name: make(CONFIG) for name, make in VARIANTS.items()}
    assert made.pop("as_it_is") == made.pop("lstm") == CONFIG
    assert CONFIG not in made.values()


def total_epochs(config):
    return sum(each.main.epochs + each.finetune.epochs for each in config.phases)


@given(st.integers(1, 30))
def test_the_first_epochs_are_a_beginning(count):
    config = first_epochs(CONFIG, count)
    assert total_epochs(config) == min(count, total_epochs(CONFIG))
    for begun, whole in zip(config.phases, CONFIG.phases, strict=False):
        stages = (
            replace(begun.main, epochs=whole.main.epochs),
            replace(begun.finetune, epochs=whole.finetune.epochs),
        )
        assert replace(whole, main=stages[0], finetune=stages[1]) == whole
        # A phase is finetuned once its main stage is over.
        assert begun.finetune.epochs == 0 or begun.main.epochs == whole.main.epochs
    complete = config.phases[:-1]
    assert complete == CONFIG.phases[: len(complete)]


def test_a_learning_rate_is_the_first_ones_and_the_others_follow():
    config = with_learning_rate(CONFIG, 22.0)
    rates = [(p.main.learning_rate, p.finetune.learning_rate) for p in config.phases]
    assert rates == [
        pytest.approx(pair) for pair in [(22.0, 40.0), (24.0, 40.0), (26.0, 40.0)]
    ]
    with pytest.raises(UsageError, match="must be above 0"):
        with_learning_rate(CONFIG, 0.0)


def test_resized_has_other_sizes_and_fewer_epochs():
    config = resized(CONFIG, embedding_size=4, hidden_size=5, epochs=4)
    assert [layer.hidden_size for layer in config.layers] == [5] * 3
    assert config.embedding_size == 4
    epochs = [(each.main.epochs, each.finetune.epochs) for each in config.phases]
    assert epochs == [(3, 2), (4, 1), (4, 4)]
    assert changes(config) == {
        "embedding_size",
        *(f"layers.{i}.hidden_size" for i in range(3)),
        "phases.2.main.epochs",
        "phases.2.finetune.epochs",
    }


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_another_cell_leaves_all_else(cell):
    config = VARIANTS[cell](Config())
    assert {layer.cell for layer in config.layers} == {cell}
    assert {layer.depth for layer in config.layers} == {3 if cell == "rhn" else None}
    assert replace(config, layers=Config().layers) == Config()
