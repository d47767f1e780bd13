"""Checksums are those of `sha256sum`, and nothing outside a folder is looked at."""

import shutil
import subprocess

import pytest

from glrnn.errors import DamagedError
from glrnn.storage.checksums import SUMS, check_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "a file").write_bytes(b"one\r\ntwo\x00")
    (folder / "deep" / "deeper" / ".hidden").write_text("three")
    (folder / "empty").touch()
    write_checksums(folder)
    return folder


def test_they_are_those_of_the_standard_program(folder):
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("there is no sha256sum here")
    command = [program, "--check", "--strict", SUMS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [
        "a file: OK",
        "deep/deeper/.hidden: OK",
        "empty: OK",
    ]


def test_a_file_more_does_no_harm(folder):
    (folder / "notes").write_text("mine")
    check_checksums(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "empty").write_text("x"), "empty is not as it was"),
        (lambda folder: (folder / "empty").unlink(), "empty is missing"),
        (lambda folder: shutil.rmtree(folder / "deep"), "deep/deeper/.hidden is miss"),
        (lambda folder: (folder / SUMS).unlink(), f"{SUMS} is missing"),
        (lambda folder: (folder / SUMS).write_text(""), f"{SUMS} is empty"),
        (lambda folder: (folder / SUMS).write_text("one"), f"{SUMS} is not as it was"),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff"), f"{SUMS} is not as it"),
        (shutil.rmtree, f"{SUMS} is missing"),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(DamagedError, match=message):
        check_checksums(folder)


def test_names_that_lead_out_of_the_folder_are_not_followed(folder):
    secret = folder.parent / "secret"
    secret.write_text("x")
    write_checksums(folder)
    with open(folder / SUMS, "a") as file:
        file.write(f"{'0' * 64}  ../secret\n")
    with pytest.raises(DamagedError, match=r"\.\./secret is missing"):
        check_checksums(folder)
