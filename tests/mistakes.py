"""Every mistake a user can make, in one table; `mistakes_test.py` makes each of them.

Settings by field, options by command, files by name. What is missing here fails there.
"""

import math
from typing import NamedTuple

NOT_INTEGER = [2.5, "x", None, True, [1], 2**31]
NOT_NUMBER = ["x", None, True, [1.0], math.nan, math.inf, -math.inf, 1e300, 1e-300]
NOT_POSITIVE = [0.0, -1.0, *NOT_NUMBER]
NEGATIVE = [-1.0, *NOT_NUMBER]
NO_RATE = [-0.1, 1, 1.0, 1.5, *NOT_NUMBER]
NO_NAME = ["lstn", "", 3, None, ["lstm"]]
ADAPTING = "--dynamic", "--context", "file"
NOT_SETTINGS = [3, "x", None, []]


def unless_none(values):
    """Of a field that may be None."""
    return [value for value in values if value is not None]


def below(low):
    """Values of an integer that must be at least `low`."""
    return [low - 1, *NOT_INTEGER]


class Field(NamedTuple):
    """A field of the settings, the quickstart's for one, and what it must not hold."""

    path: str
    bad: list


# By the class and the name of the field. None has a default to hide behind.
FIELDS = {
    "Config.embedding_size": Field("embedding_size", below(1)),
    "Config.embedding_bound": Field("embedding_bound", unless_none(NOT_POSITIVE)),
    "Config.layers": Field("layers", [3, "x", None, (), ("lstm",), (None,)]),
    "Config.head": Field("head", NO_NAME),
    "Config.num_softmaxes": Field("num_softmaxes", below(1)),
    "Config.cutoffs": Field("cutoffs", [3, "x", None, (0,), (5, "x"), (10,)]),
    "Config.sum_outputs": Field("sum_outputs", [1, "x", None]),
    "Config.phases": Field("phases", [3, "x", None, (), ("main",), (None,)]),
    "Config.inherit_head": Field("inherit_head", [1, "x", None]),
    "Config.batch_size": Field("batch_size", below(1)),
    "Config.small_batch_size": Field("small_batch_size", [3, 32, *below(0)]),
    "Config.window_length": Field("window_length", below(2)),
    "Config.fixed_windows": Field("fixed_windows", [1, "x", None]),
    "Config.updates_per_epoch": Field("updates_per_epoch", [10**7 + 1, *below(0)]),
    "Config.masks_per_step": Field("masks_per_step", [1, "x", None]),
    "Config.word_masks_per_sequence": Field("word_masks_per_sequence", [1, "x", None]),
    "Config.optimizer": Field("optimizer", NO_NAME),
    "Config.sum_over_time": Field("sum_over_time", [1, "x", None]),
    "Config.activation_regularization": Field("activation_regularization", NEGATIVE),
    "Config.temporal_activation_regularization": Field(
        "temporal_activation_regularization", NEGATIVE
    ),
    "Config.weight_decay": Field("weight_decay", NEGATIVE),
    "Config.l2_penalty": Field("l2_penalty", NEGATIVE),
    "Config.averaging": Field("averaging", NOT_SETTINGS),
    "Config.min_count": Field("min_count", below(0)),
    "Config.vocabulary_order": Field("vocabulary_order", NO_NAME),
    "Config.valid_batch_size": Field("valid_batch_size", below(1)),
    "Config.test_batch_size": Field("test_batch_size", below(1)),
    "Config.seed": Field("seed", below(0)),
    "Layer.cell": Field("layers.0.cell", NO_NAME),
    "Layer.hidden_size": Field("layers.2.hidden_size", below(1)),
    "Layer.depth": Field("layers.0.depth", [3, 10**8, *unless_none(below(0))]),
    "Layer.rank": Field("layers.1.rank", [3, *unless_none(below(0))]),
    "Phase.num_layers": Field("phases.0.num_layers", below(1)),
    "Phase.dropout": Field("phases.1.dropout", NOT_SETTINGS),
    "Phase.main": Field("phases.1.main", NOT_SETTINGS),
    "Phase.finetune": Field("phases.1.finetune", NOT_SETTINGS),
    "Averaging.trigger": Field("averaging.trigger", NO_NAME),
    "Averaging.window": Field("averaging.window", below(0)),
    "Averaging.latest": Field("averaging.latest", below(0)),
    "Dropout.embedding": Field("phases.0.dropout.embedding", NO_RATE),
    "Dropout.input": Field("phases.1.dropout.input", NO_RATE),
    "Dropout.hidden": Field(
        "phases.1.dropout.hidden",
        [(), (0.1, 0.1), *((rate,) for rate in NO_RATE), "x", None],
    ),
    "Dropout.output": Field("phases.2.dropout.output", NO_RATE),
    "Dropout.latent": Field("phases.0.dropout.latent", [0.5, *NO_RATE]),
    "Dropout.recurrent": Field("phases.0.dropout.recurrent", NO_RATE),
    "Dropout.state": Field("phases.0.dropout.state", NO_RATE),
    "Dropout.carry": Field("phases.0.dropout.carry", NO_RATE),
    "Stage.epochs": Field("phases.0.finetune.epochs", below(0)),
    "Stage.learning_rate": Field("phases.0.main.learning_rate", NOT_POSITIVE),
    "Stage.max_norms": Field(
        "phases.0.main.max_norms",
        [(), *((0.1, norm) for norm in NOT_POSITIVE), "x", None],
    ),
    "Stage.patience": Field("phases.2.main.patience", below(0)),
    "Stage.minutes": Field("phases.2.main.minutes", NEGATIVE),
    "Stage.schedule": Field("phases.2.main.schedule", NOT_SETTINGS),
    "Schedule.decay": Field("phases.0.main.schedule.decay", NOT_POSITIVE),
    "Schedule.constant_epochs": Field(
        "phases.0.main.schedule.constant_epochs", below(0)
    ),
    "Schedule.drop": Field("phases.0.main.schedule.drop", NOT_POSITIVE),
    "Schedule.drop_patience": Field("phases.0.main.schedule.drop_patience", below(0)),
    "Schedule.drop_latest": Field("phases.0.main.schedule.drop_latest", below(0)),
}

# One of each kind: all values that are bad for it are bad for its like.
KINDS_OF_FIELDS = (
    "Config.embedding_size",
    "Config.embedding_bound",
    "Config.layers",
    "Config.head",
    "Config.sum_outputs",
    "Config.phases",
    "Config.small_batch_size",
    "Config.weight_decay",
    "Layer.depth",
    "Phase.main",
    "Dropout.input",
    "Dropout.hidden",
    "Stage.max_norms",
)

# Settings that do not fit one another: their values by path, and a part of the message.
COMBINATIONS = [
    ({"phases.0.main.epochs": 0}, "Phase.main.epochs is 0; it must be at least 1"),
    ({"embedding_size": 9}, "hidden size 128, embedding size 9"),
    ({"layers.1.hidden_size": 9}, "phase 2: "),
    ({"num_softmaxes": 15}, "phase 1: this head has 1 softmax, not 15"),
    ({"phases.0.main.max_norms": (1.0,) * 3}, "takes 1 or 2: the embedding's"),
    ({"phases.2.finetune.max_norms": (1.0,) * 5}, "finetune.max_norms has 5 numbers"),
    ({"layers.0.depth": 3}, "Layer.depth is 3, but a cell of the kind lstm has no"),
    ({"layers.1.cell": "rhn", "layers.1.depth": 0}, "depth"),
    (
        {"averaging.trigger": "plateau", "averaging.window": 0},
        "Averaging.window is 0; with the trigger plateau it must be at least 1",
    ),
    (
        {"head": "projected", "sum_outputs": True, "layers.1.hidden_size": 9},
        "[128, 9, 128] hidden units; make them equal",
    ),
    ({"phases.1.num_layers": 1, "phases.1.dropout.hidden": ()}, "[1, 1, 3] layers"),
    (
        {
            "head": "mixture",
            "layers.0.hidden_size": 9,
            **{
                f"phases.{i}.{stage}.max_norms": (0.25,)
                for i in range(3)
                for stage in ("main", "finetune")
            },
        },
        "[9, 128, 128] hidden units",
    ),
]

# A folder of a corpus and everything else that is there when the mistakes are made:
# EXPERIMENT, DATA and RUN stand for good ones.
OPTIONS = {
    "train": {
        "EXPERIMENT": [
            (["nowhere.py"], "no experiment 'nowhere.py'"),
            (["x" * 300], "no experiment 'xxx"),
            (["DATA"], "no run in"),
            (["--seed", "3", "EXPERIMENT"], "must come first"),
            ([""], "word 1 of the command is empty: is a variable unset?"),
        ],
        "--data": [
            (["EXPERIMENT", "--data"], "--data"),
            (["EXPERIMENT", "--data", ""], "word 3 of the command is empty"),
            (["EXPERIMENT", "--data", "nowhere"], "unknown data set 'nowhere'"),
            (["EXPERIMENT", "--data", "x" * 300], "unknown data set 'xxx"),
            (["EXPERIMENT", "--data", "./nowhere"], "there is no folder './nowhere'"),
            (["EXPERIMENT", "--data", "DATA/nope"], "there is no folder 'data/nope'"),
            (["EXPERIMENT", "--data", "DATA/train.txt"], "data/train.txt is no folder"),
            (["EXPERIMENT", "--data", "EXPERIMENT"], "experiment.py is no folder"),
            (["EXPERIMENT", "--data", "several"], "several valid splits, dev.txt and"),
            (["EXPERIMENT", "--data", "empty"], "has no train.txt and no valid.txt"),
        ],
        "--manual-dir": [
            (["EXPERIMENT", "--manual-dir"], "--manual-dir"),
            (["--data", "DATA", "--manual-dir", "DATA"], "is of no use to"),
            (["--manual-dir", "DATA"], "is of no use to python-docs"),
            (["--data", "ptb", "--manual-dir", "nowhere"], "cannot read nowhere"),
            (["--data", "ptb", "--manual-dir", "empty"], "takes the texts of ptb"),
            (["--data", "ptb", "--manual-dir", "several"], "several valid splits"),
            (["--data", "ptb", "--manual-dir", "pipes"], "train.txt: it is a pipe"),
            (["--data", "ptb", "--manual-dir", "DATA"], "is not the train split of"),
        ],
        "--tensorboard": [
            (["EXPERIMENT", "--tensorboard", "EXPERIMENT"], "is no folder"),
            (["EXPERIMENT", "--tensorboard", "RUN/tb"], "is inside the run"),
        ],
        "--workdir": [
            (["EXPERIMENT", "--workdir"], "--workdir"),
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", ""],
                "word 5 of the command",
            ),
            (["EXPERIMENT", "--data", "DATA", "--workdir", "DATA"], "is not empty"),
            (["EXPERIMENT", "--data", "DATA", "--workdir", "EXPERIMENT"], "cannot use"),
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", "EXPERIMENT/run"],
                "Not a directory",
            ),
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", "x" * 300],
                "File name too long",
            ),
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", "RUN", "--seed", "5"],
                "seed is 28 there, 5 here",
            ),
            (
                ["EXPERIMENT", "--data", "other", "--workdir", "RUN"],
                "was trained on another corpus",
            ),
        ],
        "--min-count": [
            (
                ["EXPERIMENT", "--data", "DATA", "--min-count", "1000"],
                "the minimum count is 1000, but no word of the train split occurs more",
            ),
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", "RUN", "--min-count=1"],
                "min_count is 0 there, 1 here",
            ),
        ],
        "--distributed": [
            (["EXPERIMENT", "--distributed", "here"], "it must be auto or HOST:PORT"),
            (["EXPERIMENT", "--distributed", "here:99999"], "auto or HOST:PORT"),
            (["EXPERIMENT", "--distributed", "here:99"], "--num-processes 0"),
        ],
        "--num-processes": [
            (
                ["EXPERIMENT", "--num-processes", "2"],
                "--num-processes and --process-id need --distributed HOST:PORT",
            ),
            (["EXPERIMENT", "--num-processes", "-1"], "Cluster.num_processes is -1"),
        ],
        "--process-id": [
            (
                [
                    *("EXPERIMENT", "--distributed", "here:99"),
                    *("--num-processes", "2", "--process-id", "2"),
                ],
                "--process-id is 2 of --num-processes 2",
            ),
        ],
        "--join-seconds": [
            (["EXPERIMENT", "--join-seconds", "0"], "Cluster.join_seconds is 0"),
        ],
        "--lost-seconds": [
            (["EXPERIMENT", "--lost-seconds", "0.5"], "Cluster.lost_seconds is 0.5"),
        ],
        "--jax-log": [
            (["EXPERIMENT", "--jax-log", "logs"], "--jax-log needs --distributed"),
        ],
        "--num-devices": [
            (["EXPERIMENT", "--num-devices", "-1"], "Runtime.num_devices is -1"),
            (["EXPERIMENT", "--num-devices", "x"], "--num-devices"),
            (["EXPERIMENT", "--num-devices", "99"], "devices here, not 99"),
        ],
        "--matmul-precision": [
            (
                ["EXPERIMENT", "--matmul-precision", "float16"],
                "it must be one of bfloat16, float32, tensorfloat32",
            ),
            (["EXPERIMENT", "--matmul-precision"], "--matmul-precision"),
        ],
        "--checkpoint-minutes": [
            (
                ["EXPERIMENT", "--checkpoint-minutes", "-1"],
                "Runtime.checkpoint_minutes is -1",
            ),
            (["EXPERIMENT", "--checkpoint-minutes", "nan"], "it must be finite"),
            (["EXPERIMENT", "--checkpoint-minutes", "often"], "--checkpoint-minutes"),
        ],
        "--on-nonfinite": [
            (
                ["EXPERIMENT", "--on-nonfinite", "ignore"],
                "it must be one of rewind, skip, stop",
            ),
        ],
        "--check": [(["EXPERIMENT", "--check", "yes"], "yes")],
        "--colour": [
            (["--colour", "red"], "--colour"),
            (["--phases.3.main.epochs", "3"], "--phases.3.main.epochs"),
            (["EXPERIMENT", "twice"], "twice"),
        ],
    },
    "generate": {
        "RUN": [([], "RUN"), (["nowhere"], "no run in nowhere")],
        "--prompt": [(["RUN", "--prompt"], "--prompt")],
        "--phase": [(["RUN", "--phase", "2"], "there is no phase 2 in run: it has 1")],
        "--stage": [(["RUN", "--stage", "mian"], "--stage")],
        "--samples": [
            (
                ["RUN", "--samples", "0"],
                "the number of samples is 0; it must be",
            ),
        ],
        "--length": [(["RUN", "--length", "0"], "the length is 0; it must be at")],
        "--min-length": [
            (["RUN", "--min-length", "-1"], "min_length is -1; it must be at least 0"),
        ],
        "--temperature": [
            (
                ["RUN", "--temperature", "-1"],
                "temperature is -1.0; it must be at least",
            ),
            (["RUN", "--temperature", "nan"], "must be finite"),
        ],
        "--top-k": [(["RUN", "--top-k", "-1"], "top_k is -1; it must be at least 0")],
        "--top-p": [(["RUN", "--top-p", "2"], "top_p is 2.0; it must be between")],
        "--no-unknown": [(["RUN", "--no-unknown", "yes"], "yes")],
        "--seed": [(["RUN", "--seed", "x"], "--seed")],
    },
    "score": {
        "RUN": [
            ([], "RUN"),
            (["nowhere"], "no run in nowhere"),
            (["new"], "no checkpoint in new yet"),
        ],
        "FILE": [
            (["RUN", "nowhere.txt"], "cannot read nowhere.txt"),
            (["RUN", "DATA"], "Is a directory"),
            (["RUN", "pipes/train.txt"], "it is a pipe, not a file"),
            (["RUN"], "cannot read standard input: it is closed"),
        ],
        "--phase": [
            (["RUN", "--phase", "0"], "there is no phase 0 in run: it has 1"),
            (["RUN", "--phase", "x"], "--phase"),
        ],
        "--stage": [
            (["RUN", "--stage", "mian"], "--stage"),
            (["new", "--stage", "main"], "no checkpoint in new yet"),
        ],
        "--words": [
            (["RUN", "--words", "--format", "json"], "--words is --format words; drop"),
        ],
        "--format": [(["RUN", "--format", "jsno"], "--format")],
        "--columns": [
            (["RUN", "--words", "--columns", "rnak"], "unknown column 'rnak'; choose"),
            (["RUN", "--columns", "rank"], "--columns needs --words"),
        ],
        "--base": [
            (["RUN", "--base", "3"], "--base"),
            (["RUN", "--format", "kenlm", "--base", "e"], "--base is of no use to"),
        ],
        "--unknown": [
            (["RUN", "--unknown", "drop"], "--unknown"),
            (
                ["RUN", "--format", "kenlm", "--unknown", "skip"],
                "--unknown skip is of no use to --format kenlm",
            ),
        ],
        "--context": [(["RUN", "--context", "flie"], "--context")],
        "--dynamic": [
            (["RUN", "--dynamic"], "--dynamic needs --context file"),
            (["RUN", "--dynamic", "--nbest"], "--dynamic is of no use to --nbest"),
            (
                ["RUN", "--dynamic", "--interpolate", "RUN", "0.5"],
                "--interpolate is of no use to --dynamic",
            ),
        ],
        "--dynamic.learning-rate": [
            (["RUN", "--dynamic.learning-rate", "1e-4"], "--dynamic.* need --dynamic"),
        ],
        "--dynamic.decay-rate": [
            (["RUN", *ADAPTING, "--dynamic.decay-rate", "nan"], "must be finite"),
        ],
        "--dynamic.epsilon": [
            (["RUN", *ADAPTING, "--dynamic.epsilon", "0"], "it must be above 0"),
        ],
        "--dynamic.window-length": [
            (["RUN", *ADAPTING, "--dynamic.window-length", "0"], "at least 1"),
        ],
        "--dynamic.statistics-batch-size": [
            (
                ["RUN", *ADAPTING, "--dynamic.statistics-batch-size", "500"],
                "train split has 240 tokens: too few",
            ),
        ],
        "--data": [
            (["RUN", "--data", "DATA"], "--data and --manual-dir need --dynamic"),
            (["RUN", *ADAPTING, "--data", "nowhere"], "unknown data set 'nowhere'"),
        ],
        "--manual-dir": [
            (["RUN", *ADAPTING, "--manual-dir", "DATA"], "is of no use to"),
        ],
        "--debug": [
            (["RUN", "--debug", "1"], "--debug needs --format srilm"),
            (["RUN", "--format", "srilm", "--debug", "3"], "--debug"),
        ],
        "--nbest": [
            (
                ["RUN", "DATA/test.txt", "--nbest"],
                "begins with a key such as utterance",
            ),
            (["RUN", "--nbest", "--words"], "--words is of no use to --nbest"),
        ],
        "--per-word": [(["RUN", "--per-word"], "--per-word needs --nbest")],
        "--interpolate": [
            (["RUN", "--interpolate", "RUN", "x"], "--interpolate"),
            (["RUN", "--interpolate", "RUN", "1.5"], "the weight -0.5 is not above 0"),
            (["RUN", "--interpolate", "nowhere", "0.5"], "no run in nowhere"),
        ],
        "--output": [
            (["RUN", "DATA/test.txt", "--output", "nowhere/x"], "cannot write nowhere"),
        ],
    },
    "evaluate": {
        "RUN": [
            ([], "RUN"),
            (["nowhere"], "no run in nowhere"),
            (["DATA"], "it has no config.json"),
            (["EXPERIMENT"], "no run in"),
            (["x" * 300], "File name too long"),
            (["new"], "no checkpoint in new yet"),
        ],
        "--split": [
            (["RUN", "--split", "tset"], "--split"),
            (["RUN", "--split"], "--split"),
            (["RUN", "--text", "x", "--split", "test"], "--split is of no use to --te"),
        ],
        "--text": [
            (["RUN", "--text"], "--text"),
            (["RUN", "--text", "nowhere.txt"], "cannot read nowhere.txt"),
            (["RUN", "--text", "DATA"], "Is a directory"),
            (["RUN", "--text", ""], "word 3 of the command is empty"),
            (["RUN", "--text", "DATA", "--data", "DATA"], "--text needs no corpus"),
            (["RUN", "--text", "pipes/train.txt"], "it is a pipe, not a file"),
            (["RUN", "--text", "/dev/null"], "it is a device, not a file"),
            (["RUN", "--text", "-"], "cannot read standard input: it is closed"),
        ],
        "--interpolate": [
            (["RUN", "--interpolate", "nowhere", "0.5"], "no run in nowhere"),
            (
                ["RUN", "--dynamic", "--interpolate", "RUN", "0.5"],
                "is of no use to dyn",
            ),
        ],
        "--dropout-samples": [
            (["RUN", "--dropout-samples", "0"], "the number of samples is 0"),
            (["RUN", "--dropout-samples", "2", "--dynamic"], "is of no use to dynamic"),
        ],
        "--dropout-scale": [
            (["RUN", "--dropout-scale", "0.8"], "--dropout-scale needs --dropout-sam"),
            (
                ["RUN", "--dropout-samples", "2", "--dropout-scale", "-1"],
                "the dropout scale is",
            ),
        ],
        "--list-unknown": [(["RUN", "--list-unknown"], "--list-unknown needs --text")],
        "--data": [
            (["RUN", "--data", "nowhere"], "unknown data set 'nowhere'"),
            (["RUN", "--data", "empty"], "empty has no test.txt; a data set is"),
            (["RUN", "--data", "several", "--split", "valid"], "several valid splits"),
            (["RUN", "--data", "DATA/nope"], "there is no folder 'data/nope'"),
        ],
        "--manual-dir": [(["RUN", "--manual-dir", "DATA"], "is of no use to")],
        "--phase": [
            (["RUN", "--phase", "x"], "--phase"),
            (["RUN", "--phase", "0"], "there is no phase 0 in run: it has 1"),
            (["RUN", "--phase", "2"], "there is no phase 2 in run: it has 1"),
            (["new", "--phase", "1"], "no checkpoint of phase 1 in new yet"),
        ],
        "--stage": [
            (["RUN", "--stage", "mian"], "--stage"),
            (["new", "--stage", "main"], "no checkpoint in new yet"),
        ],
        "--dynamic": [(["RUN", "--dynamic", "yes"], "yes")],
        "--tune": [
            (["RUN", "--tune", "yes"], "yes"),
            (
                ["RUN", "--tune", "--dynamic.learning-rate", "1e-4"],
                "drop --dynamic.learning-rate and --dynamic.decay-rate",
            ),
        ],
        "--batch-size": [
            (["RUN", "--batch-size", "x"], "--batch-size"),
            (["RUN", "--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
            (["RUN", "--batch-size", "999"], "has 72 tokens: too few for batch size"),
            (["RUN", "--dynamic", "--batch-size", "2"], "is of no use to dynamic"),
        ],
        "--temperature": [
            (["RUN", "--temperature", "x"], "--temperature"),
            (
                ["RUN", "--temperature", "0"],
                "--temperature is 0.0; it must be between 0.01 and 100",
            ),
            (["RUN", "--temperature", "nan"], "it must be between 0.01 and 100"),
            (["RUN", "--temperature", "1e-5"], "it must be between 0.01 and 100"),
            (["RUN", "--temperature", "1e300"], "it must be between 0.01 and 100"),
        ],
        "--tune-temperature": [
            (["RUN", "--tune-temperature", "yes"], "yes"),
            (["RUN", "--tune-temperature", "--temperature", "2"], "drop --temperature"),
        ],
        "--dynamic.learning-rate": [
            (["RUN", "--dynamic.learning-rate", "1e-4"], "need --dynamic or"),
            (
                ["RUN", "--dynamic", "--dynamic.learning-rate", "-1"],
                "DynamicRule.learning_rate is -1.0; it must be at least 0",
            ),
            (["RUN", "--dynamic", "--dynamic.learning-rate", "x"], "learning-rate"),
        ],
        "--dynamic.decay-rate": [
            (["RUN", "--dynamic", "--dynamic.decay-rate", "nan"], "must be finite"),
        ],
        "--dynamic.epsilon": [
            (["RUN", "--dynamic", "--dynamic.epsilon", "0"], "it must be above 0"),
        ],
        "--dynamic.window-length": [
            (["RUN", "--dynamic", "--dynamic.window-length", "0"], "at least 1"),
        ],
        "--dynamic.statistics-batch-size": [
            (
                ["RUN", "--dynamic", "--dynamic.statistics-batch-size", "500"],
                "train split has 240 tokens: too few",
            ),
        ],
        "--json": [(["RUN", "--json", "yes"], "yes")],
        "--colour": [(["RUN", "--colour", "red"], "--colour")],
    },
    "study": {
        "FILE": [
            (["nowhere.py"], "no experiment 'nowhere.py'"),
            (["DATA"], "no experiment 'data'"),
            (
                ["EXPERIMENT", "other/experiment.py"],
                "have experiment twice",
            ),
        ],
        "--data": [
            (["EXPERIMENT", "--data", "nowhere"], "unknown data set 'nowhere'"),
            (["EXPERIMENT", "--data"], "--data"),
        ],
        "--manual-dir": [
            (["EXPERIMENT", "--manual-dir", "DATA"], "is of no use to python-docs"),
        ],
        "--variants": [
            (["EXPERIMENT", "--variants", "twice"], "unknown variant 'twice'; choose"),
            (["EXPERIMENT", "--variants", "lstm", "lstm"], "variants have lstm twice"),
            (["EXPERIMENT", "--variants"], "no variant is given; choose from: as_it"),
            (
                ["EXPERIMENT", "--variants", "random_softmax"],
                "a softmax head has no weights of its own",
            ),
        ],
        "--learning-rates": [
            (["EXPERIMENT", "--learning-rates", "x"], "--learning-rates"),
            (
                ["EXPERIMENT", "--learning-rates", "0"],
                "Stage.learning_rate is 0.0; it must be above 0",
            ),
            (
                ["EXPERIMENT", "--learning-rates", "9", "9.0"],
                "the learning_rates have rate_9 twice",
            ),
        ],
        "--seeds": [
            (["EXPERIMENT", "--seeds", "3", "3"], "the seeds have 3 twice"),
            (["EXPERIMENT", "--seeds", "x"], "--seeds"),
            (["EXPERIMENT", "--seeds", "-1"], "Config.seed is -1"),
        ],
        "--workdir": [
            (
                ["EXPERIMENT", "--data", "DATA", "--workdir", "EXPERIMENT"],
                "Not a directory",
            ),
            (
                ["EXPERIMENT", "--workdir", "RUN"],
                "is not the folder of a study",
            ),
        ],
        "--colour": [(["--colour", "red"], "--colour")],
    },
    "check": {
        "EXPERIMENT": [
            (["nowhere.py"], "no experiment 'nowhere.py'"),
            (["DATA"], "no run in"),
        ],
        "--data": [
            (["EXPERIMENT", "--data", "nowhere"], "unknown data set 'nowhere'"),
            (["EXPERIMENT", "--data"], "--data"),
        ],
        "--manual-dir": [
            (["EXPERIMENT", "--manual-dir", "DATA"], "is of no use to python-docs"),
        ],
        "--num-devices": [
            (["EXPERIMENT", "--num-devices", "-1"], "Check.num_devices is -1"),
            (["RUN", "--num-devices", "99"], "devices here, not 99"),
        ],
        "--matmul-precision": [
            (
                ["EXPERIMENT", "--matmul-precision", "float16"],
                "it must be one of bfloat16, float32, tensorfloat32",
            ),
        ],
        "--phase": [
            (["EXPERIMENT", "--phase", "x"], "--phase"),
            (["EXPERIMENT", "--phase", "0"], "there is no phase 0: there are 1"),
        ],
        "--colour": [(["--colour", "red"], "--colour")],
    },
    "runs": {
        "FOLDER": [
            (["nowhere"], "no run in nowhere"),
            (["EXPERIMENT"], "no run in"),
            (["DATA"], "no run in"),
        ],
        "--html": [
            (["--html"], "--html"),
            (["RUN", "--html", "a.txt"], "a.txt is no name of a page"),
            (["RUN", "--html", "DATA"], "cannot write data: it is a folder"),
            (["nowhere", "--html", "a.html"], "no run in nowhere"),
        ],
        "--colour": [(["--colour", "red"], "--colour")],
    },
    "report": {
        "RUN": [
            ([], "no run is given"),
            (["nowhere"], "no run in nowhere"),
            (["RUN", "RUN/."], "the run run is given twice"),
            (["x"] * 25, "25 runs are given, and a page compares at most 24"),
            (["new"], "no epoch of new is over yet"),
        ],
        "--output": [
            (["RUN", "--output", "RUN/metrics.jsonl"], "is no name of a page"),
            (["RUN", "--output", "empty"], "cannot write empty: it is a folder"),
            (["RUN", "--output", "RUN/phase_1/a.html"], "is inside the run"),
            (["nowhere", "--output", "a.html"], "no run in nowhere"),
        ],
        "--png": [
            (["RUN", "--png", "RUN/png"], "is inside the run"),
            (["RUN", "--png", "EXPERIMENT"], "--png experiment.py is no folder"),
        ],
        "--sentence": [
            (["RUN", "--sentence", " "], "--sentence has no words"),
            (["RUN", "--sentence"], "--sentence"),
        ],
        "--tensorboard": [
            (["RUN", "--tensorboard", "RUN"], "is inside the run"),
            (["RUN", "--tensorboard", "EXPERIMENT"], "is no folder"),
        ],
    },
}

# Environment variables that JAX reads: a value, the command, and a part of the message.
ENVIRONMENT = {
    "JAX_PLATFORMS": [
        ("cuda", ["evaluate", "RUN"], "JAX_PLATFORMS is 'cuda', but JAX finds no such"),
        ("tpv", ["train", "EXPERIMENT", "--data", "DATA"], "choose from: cpu"),
        ("", ["study", "EXPERIMENT", "--data", "nowhere"], "unknown data set"),
    ],
    "JAX_PLATFORM_NAME": [("gpu", ["check", "RUN"], "JAX_PLATFORM_NAME is 'gpu'")],
    "JAX_NUM_CPU_DEVICES": [
        ("0", ["evaluate", "RUN"], "JAX_NUM_CPU_DEVICES=0"),
        ("few", ["runs", "RUN"], "JAX_NUM_CPU_DEVICES=few"),
    ],
    "XLA_FLAGS": [
        (
            "--xla_force_host_platform_device_count=0",
            ["train", "RUN"],
            "XLA_FLAGS=--xla_force_host_platform_device_count=0",
        ),
    ],
    "JAX_ENABLE_X64": [
        ("1", ["evaluate", "RUN"], "with JAX_ENABLE_X64=0, and here it is 1"),
        ("1", ["train", "RUN"], "with JAX_ENABLE_X64=0, and here it is 1"),
        ("perhaps", ["runs", "RUN"], "JAX cannot be imported: invalid truth value"),
    ],
    "JAX_DEFAULT_PRNG_IMPL": [
        ("rbg", ["train", "RUN"], "give JAX_DEFAULT_PRNG_IMPL=threefry2x32"),
        ("dice", ["train", "RUN"], 'Invalid value "dice"'),
    ],
    "JAX_THREEFRY_PARTITIONABLE": [
        ("0", ["train", "RUN"], "with JAX_THREEFRY_PARTITIONABLE=1, and here it is 0"),
    ],
    "JAX_TRANSFER_GUARD": [
        ("disallow", ["evaluate", "RUN"], "JAX_TRANSFER_GUARD is disallow; no command")
    ],
    "JAX_DEBUG_INFS": [("1", ["train", "RUN"], "JAX_DEBUG_INFS is True; no command")],
    "JAX_RANDOM_SEED_OFFSET": [
        ("3", ["train", "RUN"], "JAX_RANDOM_SEED_OFFSET=0, and here it is 3"),
    ],
}

MISSING, DIRECTORY = object(), object()
# What nobody may wait for or read to its end: a pipe, a link to an endless device, and
# a file of one terabyte.
PIPE, ENDLESS, HUGE = object(), object(), object()
STRANGE = [
    (PIPE, "not a regular file"),
    (ENDLESS, "a symbolic link"),
    (HUGE, "it is larger than"),
]
NO_TEXT = [
    (b"", "is empty: it holds no words"),
    (b"\n \n", "is empty: it holds no words"),
    (b"caf\xe9", "is not UTF-8 text"),
    (b"\xff\xfet\x00", "is not UTF-8 text"),
    (b"t\x00h\x00e\x00", "is not UTF-8 text: NUL at byte 1"),
    (DIRECTORY, "Is a directory"),
    (PIPE, "it is a pipe, not a file"),
]
NO_JSON = [
    (b"", "Expecting value"),
    (b"\xff", "is not UTF-8 text"),
    (b"{", "Expecting property name"),
    (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
    (b"[" * 100_000, "recursion"),
    (DIRECTORY, "Is a directory"),
    *STRANGE,
]
NO_OBJECT = [*NO_JSON, (b"[1]", "is no JSON object"), (b"null", "is no JSON object")]

# Files that a user hands over: their content, and a part of the message.
FILES = {
    "train.txt": [*NO_TEXT, (MISSING, "has no train.txt"), (b"the cat", "3 tokens")],
    "valid.txt": [*NO_TEXT, (MISSING, "has no valid.txt"), (b"the", "valid split")],
    "test.txt": [*NO_TEXT, (MISSING, "has no test.txt")],
    "experiment.py": [
        (b"", "has no `config"),
        (b"config = 3", "has no `config"),
        (b"config = (", "SyntaxError"),
        (b"\xff", "SyntaxError"),
        (b"\0", "null byte"),
        (b"import nowhere_at_all", "No module named 'nowhere_at_all'"),
        (b"1 / 0", "ZeroDivisionError"),
        (b"exit()", "SystemExit"),
        (b"from glrnn import Config; config = Config(seed=-1)", "Config.seed is -1"),
        (DIRECTORY, "no run in"),
        (MISSING, "no experiment"),
    ],
    "mine.txt": [*NO_TEXT, (MISSING, "cannot read")],
}

# Files of a run, the command that reads them, and what may be wrong with them.
RUN_FILES = {
    "config.json": (
        ["evaluate", "train", "runs"],
        [
            *NO_OBJECT,
            (b'{"colour": 1}', "extra fields found (colour)"),
            (b'{"seed": "x"}', "Config.seed is 'x'"),
            (b'{"seed": 5}', "the run began with, which origin.json holds: embedding"),
            (b'{"layers": [' + b"{}," * 99_999 + b"{}]}", "layers has 100000 entries"),
            (b'{"layers": [{"cell": "rhn", "depth": 100000000}]}', "between 0 and 100"),
        ],
    ),
    "vocabulary.json": (
        ["evaluate", "train", "runs"],
        [
            *NO_JSON,
            (MISSING, "cannot read"),
            (b"{}", "no JSON list of strings"),
            (b"[1]", "no JSON list of strings"),
            (b'["a", "a"]', "holds 'a' more than once"),
            (b'["a", "b"]', "is not what the run began with: the words' SHA-256 is"),
        ],
    ),
    "origin.json": (
        ["evaluate", "train", "runs"],
        [
            *NO_OBJECT,
            (MISSING, "cannot read"),
            (b"{}", "required field missing"),
            (b'{"data": 3, "sha256": "x"}', "Origin.data is 3; it must be str"),
            (
                b'{"data": "x", "sha256": "x", "numerics": {"enable_x64": 3}}',
                "Numerics.enable_x64 is 3; it must be bool",
            ),
            (b'{"data": "x", "sha256": "x", "config": {"a": 1}}', "found (a) @"),
            (
                b'{"data": "x", "sha256": "x", "splits_sha256": {"test": 3}}',
                "Origin.splits_sha256 is 3; it must be str",
            ),
            (
                b'{"data": "x", "sha256": "x", "machine": {"jax": 3}}',
                "Origin.machine is 3; it must be str",
            ),
            (
                b'{"data": "x", "sha256": "x", "splits_sha256": [3]}',
                "origin.splits_sha256",
            ),
        ],
    ),
    "metrics.jsonl": (
        ["runs"],
        [
            (b"\xff\n", "is not UTF-8 text"),
            (b"x\n", "line 1: not an epoch"),
            (b"[]\n", "line 1: not an epoch: [] is no JSON object"),
            (b"{}\n", "required field missing @ epoch.phase"),
            (DIRECTORY, "Is a directory"),
            *STRANGE,
        ],
    ),
    "phase_1/summary.json": (
        ["runs", "train"],
        [
            *NO_OBJECT,
            (b"{}", "required field missing"),
            (b'{"colour": 1}', "extra fields found (colour)"),
        ],
    ),
}
