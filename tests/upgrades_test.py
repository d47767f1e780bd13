"""Runs that earlier versions wrote can be read."""

import json
from dataclasses import asdict, replace

import pytest

from glrnn.config import Averaging, Config
from glrnn.data.vocabulary import Vocabulary
from glrnn.errors import UsageError
from glrnn.storage import run_folder
from glrnn.storage.run_folder import Origin, Summary
from glrnn.validation import to_json

SUMMARY = Summary(1, 1, 666, 5, 2.0, None, 2.0, 3.0)


@pytest.fixture
def run(tmp_path):
    """A run as version 0.1.0 wrote it."""
    settings = asdict(Config(seed=7))
    del settings["averaging"]
    settings |= {"trigger": "plateau", "nonmonotonic": 3, "averaging_latest": 9}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "origin.json").write_text(to_json(Origin("ptb", "0")))
    Vocabulary(("a", "b")).save(tmp_path / "vocabulary.json")
    (tmp_path / "phase_1").mkdir()
    summary = asdict(SUMMARY) | {"metrics_offset": 100}
    (tmp_path / "phase_1" / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_settings_and_summaries_of_before_are_read(run):
    found = run_folder.read(run)
    averaging = Averaging("plateau", window=3, latest=9)
    assert found.config == replace(Config(seed=7), averaging=averaging)
    assert found.read_summary(1) == SUMMARY


def test_other_unknown_fields_are_refused(run):
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"nonmonotone": 1}))
    with pytest.raises(UsageError, match=r"config\.json: .*nonmonotone"):
        run_folder.read(run)
