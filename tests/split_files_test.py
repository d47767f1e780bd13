"""The files of splits, by the names that people have."""

import pytest

from glrnn.data.split_files import find
from glrnn.errors import UsageError


def found(folder, names, splits=("train", "valid", "test")):
    for name in names.split():
        (folder / name).touch()
    return [path.name for path in find(folder, splits).values()]


@pytest.mark.parametrize(
    "names",
    [
        "train.txt valid.txt test.txt",
        "ptb.train.txt ptb.valid.txt ptb.test.txt",
        "wiki.train.tokens wiki.valid.tokens wiki.test.tokens",
        "wiki.train.raw wiki.valid.raw wiki.test.raw",
        "train val test",
        "train.txt val.txt test.txt",
        "training.txt dev.txt test.txt",
        "my-corpus_train.txt my-corpus_validation.txt my-corpus_test.tok",
        "Train.txt VALID.TXT test.text",
    ],
)
def test_names_that_people_have(tmp_path, names):
    others = "README.txt train.txt~ .train.txt.swp ._train.txt train.txt.gz constraint"
    others += " \x1b[31m.train.txt"
    assert found(tmp_path, f"{names} {others} latest.txt pretrain.txt") == names.split()


def test_the_usual_names_win_if_all_are_there(tmp_path):
    usual = "train.txt valid.txt test.txt"
    others = "ptb.train.txt val.txt test"
    assert found(tmp_path, f"{usual} {others}") == usual.split()


def test_a_folder_is_no_split(tmp_path):
    (tmp_path / "train").mkdir()
    names = "my.train.txt my.valid.txt my.test.txt"
    assert found(tmp_path, names) == names.split()


def test_only_the_splits_that_are_asked_for_must_be_there(tmp_path):
    assert found(tmp_path, "a.test.txt x.train y.train", ["test"]) == ["a.test.txt"]
    assert found(tmp_path, "a.valid.txt", []) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ptb.train.txt ptb.test.txt", "has no valid.txt; a data set is a folder with"),
        ("trains.txt", "has no train.txt and no valid.txt and no test.txt"),
        (
            "train.txt dev.txt val.txt test.txt",
            "has several valid splits, dev.txt and val.txt; name the files that you",
        ),
        (
            "train.txt ptb.train.txt ptb.valid.txt ptb.test.txt",
            "has several train splits, ptb.train.txt and train.txt; name",
        ),
        (
            "ptb.train.txt wiki.valid.tokens ptb.test.txt",
            "has files of several data sets, ptb.train.txt and wiki.valid.tokens; name",
        ),
    ],
)
def test_files_that_are_not_clear_are_refused(tmp_path, names, message):
    with pytest.raises(UsageError) as error:
        found(tmp_path, names)
    assert str(error.value).startswith(f"{tmp_path} {message}")
