"""What is refused and in which words, and JSON there and back."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.errors import UsageError
from glrnn.ground.files import parse_json
from glrnn.ground.validation import differences, from_values, to_json

ONE = Stage(epochs=1)


def from_json(text):
    return from_values(Config, parse_json(text, "a config"), "a config")


def phase(num_layers=1, **changes):
    dropout = Dropout(hidden=(0.0,) * (num_layers - 1))
    return Phase(
        **{"num_layers": num_layers, "dropout": dropout, "main": ONE} | changes
    )


def mixture(*hidden_sizes, **changes):
    """A mixture of softmaxes with one phase for each layer."""
    return Config(
        **{
            "head": "mixture",
            "num_softmaxes": 2,
            "layers": tuple(Layer(hidden_size=size) for size in hidden_sizes),
            "phases": tuple(phase(n + 1) for n in range(len(hidden_sizes))),
        }
        | changes
    )


# JSON.

rates = st.floats(0, 1, exclude_max=True, width=32, allow_subnormal=False)
norms = st.floats(0, 1e6, exclude_min=True, width=32, allow_subnormal=False)


@st.composite
def configs(draw):
    size = draw(st.integers(1, 300))
    depth = draw(st.integers(1, 3))
    head = draw(st.sampled_from(["softmax", "mixture"]))

    def stage(num_layers, least):
        groups = draw(st.sampled_from([1, 1 + num_layers + (head == "mixture")]))
        return Stage(
            epochs=draw(st.integers(least, 500)),
            learning_rate=draw(st.one_of(norms, st.integers(1, 30))),
            max_norms=tuple(draw(st.lists(norms, min_size=groups, max_size=groups))),
        )

    def drawn_phase(num_layers):
        hidden = draw(st.lists(rates, min_size=num_layers - 1, max_size=num_layers - 1))
        dropout = Dropout(input=draw(rates), hidden=tuple(hidden))
        return Phase(num_layers, dropout, stage(num_layers, 1), stage(num_layers, 0))

    return Config(
        embedding_size=size,
        layers=(Layer(hidden_size=size),) * depth,
        head=head,
        num_softmaxes=draw(st.integers(1, 15)) if head == "mixture" else 1,
        phases=tuple(map(drawn_phase, range(1, depth + 1))),
        inherit_head=draw(st.booleans()),
        weight_decay=draw(rates),
        averaging=Averaging(
            draw(st.sampled_from(["never", "non_monotonic", "plateau"])),
            window=draw(st.integers(1, 9)),
            latest=draw(st.integers(0, 9)),
        ),
        seed=draw(st.integers(0, 2**31 - 1)),
    )


@settings(max_examples=40, deadline=None)
@given(configs())
def test_json_there_and_back_is_the_same(config):
    assert from_json(to_json(config)) == config
    assert to_json(from_json(to_json(config))) == to_json(config)


def test_json_spells_out_every_field():
    config = mixture(8, 8)
    written = json.loads(to_json(config))
    assert written.keys() == {spec.name for spec in dataclasses.fields(Config)}
    assert written["num_softmaxes"] == 2
    assert written["phases"][1]["dropout"]["hidden"] == [0.0]
    assert written["phases"][1]["finetune"] == dataclasses.asdict(Stage()) | {
        "max_norms": list(Stage().max_norms)
    }


def test_what_json_leaves_out_is_the_default():
    assert from_json("{}") == Config()
    assert from_json('{"seed": 3}') == replace(Config(), seed=3)


def changed(*path, value):
    """The quickstart's JSON with one place changed."""
    values = place = json.loads(to_json(Config()))
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a config: Expecting value: line 1"),
        ("{", "not a config: Expecting property name"),
        ("[1]", r"not a config: \[1\] is no JSON object"),
        ("null", "not a config: null is no JSON object"),
        ('"x"', 'not a config: "x" is no JSON object'),
        ('{"colour": 1}', r"extra fields found \(colour\) @ config"),
        (
            changed("phases", 1, "main", "colour", value=1),
            r"extra fields found \(colour\) @ config\.phases\[1\]\.main",
        ),
        (
            changed("phases", 1, "main", "epochs", value=3.9),
            r"Stage\.epochs is 3\.9; it must be int @ config\.phases\[1\]\.main",
        ),
        (
            changed("phases", 0, "main", "learning_rate", value="20"),
            r"Stage\.learning_rate is '20'; it must be float",
        ),
        (changed("seed", value=True), r"Config\.seed is True; it must be int"),
        (changed("seed", value=None), r"Config\.seed is None; it must be int"),
        (changed("inherit_head", value=1), r"Config\.inherit_head is 1; .* bool"),
        (changed("weight_decay", value=math.nan), r"Config\.weight_decay is nan"),
        ('{"weight_decay": 1e400}', r"Config\.weight_decay is inf; it must be finite"),
        (
            changed("layers", 2, "cell", value="lstn"),
            r"Layer\.cell is 'lstn'; it must be one of .*lstm.* @ config\.layers\[2\]",
        ),
        (changed("head", value=["softmax"]), r"Config\.head is \['softmax'\]"),
        (changed("phases", value=3), r"expected tuple @ config\.phases"),
        (changed("phases", value=None), r"expected tuple @ config\.phases"),
        (changed("phases", 0, value=None), r"expected Phase @ config\.phases\[0\]"),
        (changed("phases", 0, value="main"), r"expected Phase @ config\.phases\[0\]"),
        (changed("layers", 0, value=[]), r"expected Layer @ config\.layers\[0\]"),
        (
            changed("phases", 0, "main", "max_norms", value=0.3),
            r"expected tuple @ config\.phases\[0\]\.main\.max_norms",
        ),
        (
            changed("phases", 1, "dropout", "hidden", value=[]),
            r"Dropout\.hidden has 0 rates; a phase of 2 layers takes 1",
        ),
        (changed("embedding_size", value=100), r"hidden size \d+, embedding size 100"),
    ],
)
def test_bad_json_is_refused_with_the_reason_and_the_place(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


# Single fields; `mistakes_test.py` has every bad value of every field.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(epochs=3.0), r"Stage\.epochs is 3\.0; it must be int"),
        (lambda: Stage(epochs="3"), r"Stage\.epochs is '3'; it must be int"),
        (lambda: Stage(epochs=True), r"Stage\.epochs is True; it must be int"),
        (lambda: Stage(epochs=-1), r"Stage\.epochs is -1; it must be at least 0"),
        (lambda: Stage(patience=-1), r"Stage\.patience is -1; .* at least 0"),
        (lambda: Stage(learning_rate=0), r"learning_rate is 0; it must be above 0"),
        (lambda: Stage(learning_rate=True), r"learning_rate is True; .* float"),
        (lambda: Stage(max_norms=()), r"Stage\.max_norms is empty"),
        (lambda: Stage(max_norms=0.1), r"max_norms is 0\.1; it must be a tuple"),
        (lambda: Stage(max_norms=[0.1]), r"max_norms is \[0\.1\]; .* a tuple"),
        (lambda: Averaging(window=-1), r"Averaging\.window is -1; .* at least 0"),
        (
            lambda: Averaging("plateau", window=0),
            r"Averaging\.window is 0; with the trigger plateau .* at least 1",
        ),
        (lambda: Dropout(input=1.5), r"input is 1\.5; it must be a rate in \[0, 1\)"),
        (lambda: Layer("lstn"), r"Layer\.cell is 'lstn'; it must be one of .*lstm"),
        (lambda: Layer(["lstm"]), r"Layer\.cell is \['lstm'\]; it must be str"),
        (lambda: Layer(hidden_size=0), r"hidden_size is 0; it must be at least 1"),
        (
            lambda: Config(head="sofmax"),
            r"Config\.head is 'sofmax'; it must be one of adaptive, mixture,",
        ),
        (lambda: Config(seed=-1), r"Config\.seed is -1"),
        (lambda: Config(batch_size=0), r"Config\.batch_size is 0"),
        (lambda: Config(window_length=1), r"window_length is 1; .* at least 2"),
        (lambda: Config(weight_decay=-1.0), r"Config\.weight_decay is -1\.0"),
        (lambda: Config(inherit_head=0), r"inherit_head is 0; it must be bool"),
        (lambda: Config(layers=("lstm",)), r"Config\.layers is 'lstm'; .* Layer"),
        (lambda: phase(main=Stage()), r"Phase\.main\.epochs is 0; .* at least 1"),
        (lambda: phase(main=None), r"Phase\.main is None; it must be Stage"),
    ],
)
def test_a_bad_value_is_refused_by_name(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# Fields that must fit one another.


@pytest.mark.parametrize("hidden", [(), (0.1,), (0.1,) * 3])
def test_hidden_rates_must_fit_the_layers(hidden):
    with pytest.raises(
        UsageError,
        match=rf"Dropout\.hidden has {len(hidden)} rates; a phase of 3 layers takes 2",
    ):
        phase(3, dropout=Dropout(hidden=hidden))


@pytest.mark.parametrize("stage", ["main", "finetune"])
@pytest.mark.parametrize(
    ("head", "size", "message"),
    [
        ("softmax", 2, "takes 1 or 3: the embedding's, one for each layer$"),
        (
            "softmax",
            4,
            "has 4 numbers; with 2 layers and the head softmax it takes 1 or 3",
        ),
        ("mixture", 3, "takes 1 or 4: the embedding's, .* each layer, the head's$"),
        (
            "mixture",
            5,
            "has 5 numbers; with 2 layers and the head mixture it takes 1 or 4",
        ),
    ],
)
def test_limits_must_fit_the_layers(stage, head, size, message):
    changes = {stage: Stage(epochs=1, max_norms=(0.1,) * size)}
    with pytest.raises(UsageError, match=f"phase 2: {stage}.max_norms .*{message}"):
        Config(
            head=head,
            layers=(Layer(),) * 2,
            phases=(phase(1), phase(2, **changes)),
        )


@pytest.mark.parametrize(
    ("head", "size"), [("softmax", 1), ("softmax", 3), ("mixture", 1), ("mixture", 4)]
)
def test_limits_that_fit_are_accepted(head, size):
    fits = Stage(epochs=1, max_norms=(0.1,) * size)
    Config(
        head=head,
        layers=(Layer(),) * 2,
        phases=(phase(2, main=fits, finetune=fits),),
    )


@pytest.mark.parametrize("depths", [(), (1,), (2, 1), (1, 1, 2), (1, 3), (2, 2)])
def test_phases_must_rise_to_the_last_layer(depths):
    with pytest.raises(UsageError, match=r"must rise and end at 2, the number of"):
        Config(layers=(Layer(),) * 2, phases=tuple(map(phase, depths)))


def test_phases_may_skip_a_depth():
    assert len(Config(phases=(phase(1), phase(3))).phases) == 2


def test_a_softmax_head_wants_every_last_layer_as_wide_as_the_embedding():
    layers = Layer(hidden_size=9), Layer(hidden_size=8)
    with pytest.raises(
        UsageError, match=r"phase 1: .* hidden size 9, embedding size 8; .*'mixture'"
    ):
        Config(embedding_size=8, layers=layers, phases=(phase(1), phase(2)))
    Config(embedding_size=8, layers=layers, phases=(phase(2),))


def test_a_softmax_head_has_neither_softmaxes_nor_latents():
    with pytest.raises(UsageError, match=r"phase 1: .* 1 softmax, not 15"):
        Config(num_softmaxes=15)
    dropout = Dropout(latent=0.2)
    with pytest.raises(UsageError, match=r"Dropout\.latent is 0\.2.*no latent vectors"):
        Config(layers=(Layer(),), phases=(phase(dropout=dropout),))
    mixture(160, phases=(phase(dropout=dropout),))


def test_a_head_that_cannot_be_inherited_is_refused():
    with pytest.raises(
        UsageError, match=r"have \[8, 9\] hidden units.*equal or set inherit_head to F"
    ):
        mixture(8, 9)
    mixture(8, 9, inherit_head=False)
    mixture(8, 8)
    mixture(8, 9, phases=(phase(2),))


# Differences.


def test_equal_configs_have_no_differences():
    assert differences(Config(), Config()) == []


def test_differences_name_the_place_and_both_values():
    stored, given = (
        mixture(8, seed=seed, phases=(phase(main=Stage(1, max_norms=norms)),))
        for seed, norms in ((28, (0.1, 0.2, 0.3)), (1, (0.1, 0.4, 0.3)))
    )
    assert differences(stored, given) == [
        "phases.0.main.max_norms.1 is 0.2 there, 0.4 here",
        "seed is 28 there, 1 here",
    ]


def test_tuples_of_different_lengths_are_one_difference():
    first = Stage(max_norms=(0.1,))
    assert differences(first, Stage(max_norms=(0.1, 0.2))) == [
        "max_norms is (0.1,) there, (0.1, 0.2) here"
    ]


@settings(max_examples=20, deadline=None)
@given(configs(), configs())
def test_there_are_differences_unless_the_configs_are_equal(first, second):
    assert (differences(first, second) == []) == (first == second)


def test_more_layers_than_can_be_compiled_are_refused():
    with pytest.raises(UsageError, match=r"^Config.layers has 101 entries; it must"):
        Config(layers=(Layer(),) * 101)
