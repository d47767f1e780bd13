"""The cache of encoded texts: used, damaged, full, shared and out of the way."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from glrnn import data
from glrnn.data import cache, corpus, digests, tokens
from glrnn.data.vocabulary import Vocabulary
from glrnn.errors import UsageError

TEXTS = {"train": "the cat sat\n" * 40, "valid": "a cat\n", "test": "the mat <eos>\n"}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glrnn" / "texts"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    write(folder, TEXTS)
    return folder


def write(folder, contents):
    folder.mkdir(exist_ok=True)
    for split, text in contents.items():
        (folder / f"{split}.txt").write_text(text)


@pytest.fixture
def reads(monkeypatch):
    """The paths of the texts that are read, as they are."""
    paths = []

    def read_blocks(path, advance):
        paths.append(path)
        return (yield from tokens.read_blocks(path, advance))

    monkeypatch.setattr(corpus, "read_blocks", read_blocks)
    return paths


def same(one, other):
    """Whether two corpora are the same, bit for bit."""
    return one.vocabulary == other.vocabulary and all(
        np.array_equal(getattr(one, split), getattr(other, split))
        for split in data.SPLITS
    )


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# What is kept.


def test_texts_are_read_once(folder, kept, reads, capsys):
    first = data.load(folder)
    assert len(reads) == 3
    told = capsys.readouterr().err
    assert "warning" in told
    assert sorted(os.listdir(folder)) == ["test.txt", "train.txt", "valid.txt"]
    again = data.load(folder)
    assert len(reads) == 3
    assert same(first, again)
    assert again.unknown == first.unknown
    assert capsys.readouterr().err == told
    assert data.fingerprint(again) == data.fingerprint(first)
    assert not [path for path in files_in(kept) if path.name.startswith(".")]


def test_streams_are_mapped_to_memory_and_cannot_be_written(folder):
    data.load(folder)
    for stream in data.load(folder)[2:5]:
        assert isinstance(stream.base.base, np.memmap) or isinstance(
            stream.base, np.memmap
        )
        with pytest.raises(ValueError, match="read-only"):
            stream[0] = 0


def test_the_fingerprints_are_those_of_lists_of_tokens(folder):
    corpus = data.load(folder)
    plain = in_memory(corpus)
    for found in (corpus, data.load(folder)):
        assert data.fingerprint(found) == data.fingerprint(plain)
        assert data.split_fingerprints(found) == data.split_fingerprints(plain)
    changed = corpus._replace(valid=corpus.valid[:-1])
    assert data.fingerprint(changed) != data.fingerprint(corpus)


def test_a_copy_elsewhere_is_known(folder, tmp_path, reads):
    data.load(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert data.load(tmp_path / "copy").name == str(tmp_path / "copy")
    assert len(reads) == 3


def test_a_minimum_count_and_another_text_are_read_anew(folder, reads):
    data.load(folder)
    data.load(folder, min_count=2)
    assert len(reads) == 6
    write(folder, {"valid": "the dog\n"})
    corpus = data.load(folder)
    assert len(reads) == 9
    assert "dog" in corpus.vocabulary.words
    data.load(folder, min_count=2)
    assert len(reads) == 12


def test_a_models_vocabulary_finds_what_its_training_kept(folder, reads):
    trained = data.load(folder)
    assert same(trained, data.load(folder, trained.vocabulary))
    data.load(folder, trained.vocabulary, splits=["test"])
    assert len(reads) == 3
    other = Vocabulary((*trained.vocabulary.words[::-1], "<unk>"))
    for _ in range(2):
        found = data.load(folder, other, splits=["test"])
        assert other.decode(found.test) == ["the", "mat", "<eos>", "<eos>"]
    assert len(reads) == 4


def test_a_corpus_without_digests_is_not_kept(kept):
    data.load("python-docs")
    assert not (kept / "streams").exists()


# What a file is.


def test_a_digest_is_remembered_once_its_file_has_settled(tmp_path, kept, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("the cat")
    first = digests.sha256_of(path, kept)
    assert not (kept / "digests").exists()  # just written: it may be again
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    assert digests.sha256_of(path, kept) == first
    monkeypatch.setattr("hashlib.file_digest", None)
    assert digests.sha256_of(path, kept) == first


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_a_change_is_seen_though_size_and_time_are_the_same(
    tmp_path, kept, monkeypatch, how
):
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("the cat")
    first, status = digests.sha256_of(path, kept), path.stat()
    time.sleep(0.02)  # more than a tick of the clock that files are dated by
    other.write_text("the mat")
    if how == "written":
        path.write_text("the mat")
    else:
        os.replace(other, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests.sha256_of(path, kept) != first


def test_a_text_that_changes_while_it_is_read_is_kept_as_it_was_read(
    folder, reads, monkeypatch
):
    hashed = corpus.sha256_of
    monkeypatch.setattr(corpus, "sha256_of", lambda path, folder: "0" * 64)
    first = data.load(folder)
    monkeypatch.setattr(corpus, "sha256_of", hashed)
    assert same(first, data.load(folder))
    assert len(reads) == 3


# What is damaged, or cannot be kept.


def damages(path):
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = bytearray(content)
    flipped[middle] ^= 1
    yield flipped
    yield content[:middle]
    yield content + b"\0\0\0\0"
    yield b""
    yield None


def in_memory(corpus):
    """A copy whose streams are not mapped to files."""
    streams = {split: np.array(getattr(corpus, split)) for split in data.SPLITS}
    return corpus._replace(**streams)


def test_what_is_damaged_is_made_anew(folder, kept):
    first = in_memory(data.load(folder))
    data.fingerprint(data.load(folder))
    fingerprint = data.fingerprint(first)
    whole = {path: path.read_bytes() for path in files_in(kept)}
    assert len(whole) == 9
    for path in whole:
        for damaged in damages(path):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            again = data.load(folder)
            assert same(first, again)
            assert data.fingerprint(again) == fingerprint
            assert path.read_bytes() == whole[path]


def test_a_cache_that_cannot_be_written_is_one_note(folder, kept, capsys, reads):
    expected = data.load(folder)
    shutil.rmtree(kept.parent)
    kept.parent.write_text("no folder")
    capsys.readouterr()
    for count in (6, 9):
        corpus = data.load(folder)
        assert same(corpus, expected)
        assert data.fingerprint(corpus) == data.fingerprint(expected)
        told = capsys.readouterr().err.splitlines()
        assert [line for line in told if line.startswith("note")] == [
            "note: encoded texts are not kept, and will be read again: cannot write "
            f"{kept}: Not a directory"
        ]
        assert len({*told}) == len(told)
        assert len(reads) == count or len(reads) == count + 3


@pytest.mark.parametrize("largest", [0, 100, 600])
def test_a_full_disk_costs_nothing_but_the_cache(folder, kept, capsys, largest):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        corpus = data.load(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err.count("File too large") == 1
    assert not [path for path in files_in(kept) if path.name.startswith(".")]
    assert same(corpus, data.load(folder))


def test_a_disk_that_is_full_at_the_end_spares_the_second_reading(
    folder, kept, capsys, monkeypatch, reads
):
    def full(path, value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write", full)
        corpus = data.load(folder)
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert len(reads) == 3
    assert files_in(kept) == []
    assert same(corpus, data.load(folder))


def test_a_bad_text_leaves_nothing(folder, kept):
    (folder / "test.txt").write_bytes(b"a \xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        data.load(folder)
    assert files_in(kept) == []


# Two processes, and one that is killed.

PROGRAM = """
import sys
from pathlib import Path
from glrnn import data
from glrnn.data import texts

def wait(path, seen):
    for piece in pieces(path, seen):
        Path(sys.argv[2], "here").touch()
        while not Path(sys.argv[2], "go").exists():
            pass
        yield piece

pieces, texts.pieces = texts.pieces, wait
print(data.fingerprint(data.load(Path(sys.argv[1]))))
"""


@pytest.fixture
def begin(tmp_path):
    """Begins a process that reads the texts and waits before it encodes them."""
    begun = []

    def begin(folder):
        place = tmp_path / f"process-{len(begun)}"
        place.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        begun.append(process)
        while not (place / "here").exists():
            time.sleep(0.01)
        return process, place / "go"

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_processes_and_a_killed_one_are_not_in_each_others_way(folder, kept, begin):
    killed, _ = begin(folder)
    one, go_one = begin(folder)
    two, go_two = begin(folder)
    killed.kill()
    killed.wait()
    go_one.touch()
    go_two.touch()
    found = {process.communicate()[0] for process in (one, two)}
    corpus = data.load(folder)
    assert found == {f"{data.fingerprint(corpus)}\n"}
    (left,) = [path for path in files_in(kept) if path.name.startswith(".")]
    # Another process may still write it: it is removed once nobody did for an hour.
    os.utime(left, (0, time.time() - cache.ABANDONED - 1))
    data.load(folder, min_count=1)
    assert not left.exists()


def test_without_the_package_that_knows_the_folder_there_is_no_cache(
    folder, kept, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert data.load(folder).train.size == 160
    assert "note" not in capsys.readouterr().err
    assert not Path(kept).exists()
