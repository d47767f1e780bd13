"""The files of runs that earlier versions wrote are read."""

import json
from dataclasses import asdict

import pytest

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.errors import UsageError
from glrnn.ground.validation import to_json
from glrnn.storage import run_folder
from glrnn.storage.run_folder import Origin, Summary

# Of commit 74a12da, every field spelled out.
OLD = """{
  "embedding_size": 16,
  "embedding_bound": 0.1,
  "layers": [
    {"cell": "lstm", "hidden_size": 16, "depth": null, "rank": null}
  ],
  "head": "softmax",
  "num_softmaxes": 1,
  "sum_outputs": false,
  "phases": [
    {
      "num_layers": 1,
      "dropout": {
        "embedding": 0.1, "input": 0.1, "hidden": [], "output": 0.1,
        "latent": 0.0, "recurrent": 0.0, "state": 0.0, "carry": 0.0
      },
      "main": {
        "epochs": 5, "learning_rate": 10.0, "max_norms": [0.5],
        "patience": 0, "minutes": 0.0,
        "schedule": {
          "decay": 1.0, "constant_epochs": 0, "drop": 1.0,
          "drop_patience": 0, "drop_latest": 0
        }
      },
      "finetune": {
        "epochs": 3, "learning_rate": 5.0, "max_norms": [0.5],
        "patience": 0, "minutes": 0.0,
        "schedule": {
          "decay": 1.0, "constant_epochs": 0, "drop": 1.0,
          "drop_patience": 0, "drop_latest": 0
        }
      }
    }
  ],
  "inherit_head": true,
  "batch_size": 10,
  "small_batch_size": 0,
  "window_length": 10,
  "fixed_windows": false,
  "updates_per_epoch": 0,
  "masks_per_step": false,
  "word_masks_per_sequence": false,
  "optimizer": "sgd",
  "sum_over_time": false,
  "activation_regularization": 2.0,
  "temporal_activation_regularization": 1.0,
  "weight_decay": 1.2e-06,
  "l2_penalty": 0.0,
  "trigger": "plateau",
  "nonmonotonic": 3,
  "averaging_latest": 4,
  "valid_batch_size": 2,
  "test_batch_size": 1,
  "seed": 28
}
"""
CONFIG = Config(
    embedding_size=16,
    layers=(Layer(hidden_size=16),),
    phases=(
        Phase(
            1,
            Dropout(0.1, 0.1, (), 0.1),
            Stage(5, learning_rate=10.0, max_norms=(0.5,)),
            Stage(3, learning_rate=5.0, max_norms=(0.5,)),
        ),
    ),
    averaging=Averaging("plateau", window=3, latest=4),
    batch_size=10,
    window_length=10,
    valid_batch_size=2,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocabulary.json").write_text('["a", "b"]')
    (tmp_path / "origin.json").write_text('{"data": "mine", "sha256": "0"}')
    return tmp_path


def test_a_config_of_before_is_read(folder):
    (folder / "config.json").write_text(OLD)
    assert run_folder.read(folder).config == CONFIG


def test_old_fields_that_are_missing_take_their_defaults(folder):
    (folder / "config.json").write_text('{"nonmonotonic": 1, "seed": 3}')
    config = Config(averaging=Averaging(window=1), seed=3)
    assert run_folder.read(folder).config == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"nonmonotonic": -1}', "Averaging.window is -1; it must be at least 0"),
        ('{"averaging": {"window": 1}, "nonmonotonic": 1}', "fields found .nonmonoton"),
    ],
)
def test_old_fields_are_checked_like_new_ones(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(UsageError, match=rf"config\.json: not a config: .*{message}"):
        run_folder.read(folder)


def test_a_summary_of_before_is_read(folder):
    (folder / "config.json").write_text(OLD)
    (folder / "phase_1").mkdir()
    summary = Summary(1, 1, 666, 5, 2.0, None, 2.0, 3.0)
    old = asdict(summary) | {"metrics_offset": 100}
    (folder / "phase_1" / "summary.json").write_text(json.dumps(old))
    assert run_folder.read(folder).read_summary(1) == summary


def test_what_a_run_began_with_is_upgraded_likewise(folder):
    (folder / "config.json").write_text(to_json(CONFIG))
    origin = {"data": "mine", "sha256": "0", "config": json.loads(OLD)}
    (folder / "origin.json").write_text(json.dumps(origin))
    assert run_folder.read(folder).origin.config == CONFIG


def test_settings_that_were_edited_are_named(folder):
    (folder / "config.json").write_text(OLD.replace('"seed": 28', '"seed": 29'))
    origin = Origin("mine", "0", config=CONFIG)
    (folder / "origin.json").write_text(to_json(origin))
    with pytest.raises(UsageError, match="holds: seed is 28 there, 29 here; undo"):
        run_folder.read(folder)
