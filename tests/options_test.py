"""The options of a config in groups: all of them, under their own names."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import tyro

from glrnn import train
from glrnn.config import Config
from glrnn.console.options import GROUPS, config_of, grouped_options


def test_groups_name_fields_and_none_twice():
    named = [name for names in GROUPS.values() for name in names]
    assert len(set(named)) == len(named)
    assert set(named) < {spec.name for spec in fields(Config)}


def test_a_config_is_the_same_by_way_of_its_groups():
    config = replace(Config(), seed=3, weight_decay=0.5, inherit_head=False)
    groups = {name: value for name, (_, value) in grouped_options(config).items()}
    assert config_of(groups) == config


def test_options_have_the_names_of_tyro_without_groups():
    """As scripts of users spell them."""
    words = ["--weight-decay", "0.5", "--layers.1.cell", "gru", "--no-inherit-head"]
    words += ["--phases.0.main.epochs", "7", "--seed", "3", "--embedding-bound", "None"]
    expected = tyro.cli(Config, args=words, default=Config())
    assert train._parse(words).config == expected


def test_help_shows_first_what_most_people_need():
    command = [sys.executable, "-m", "glrnn.train", "--help"]
    environment = os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, env=environment, capture_output=True, check=True, encoding="utf-8"
    )
    lines = done.stdout.splitlines()
    boxes = [line.strip("╭─╮ ") for line in lines if line.startswith("╭─")]
    assert boxes[:3] == ["positional arguments", "options", "network options"]
    order = [box for box in boxes if box.split()[0] in GROUPS]
    groups = ("network", "training", "regularization", "averaging")
    assert order == [f"{group} options" for group in groups]
    first = [line.split()[1] for line in lines if line.startswith("│ --")][:2]
    assert first == ["--data", "--workdir"]
    assert "A whole run" not in "".join(lines)
