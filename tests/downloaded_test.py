"""Named corpora that are downloaded: a local server plays every address."""

import hashlib
import json
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from reading import read_tokens
from tensorflow_datasets.core import constants

from glrnn import data, train
from glrnn.data.corpora import download, downloaded
from glrnn.data.corpora.download import Source, Text
from glrnn.data.corpora.ptb import Ptb
from glrnn.data.corpora.wikitext2 import Wikitext2
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK
from glrnn.errors import UsageError

# More tokens than a record holds, a blank line, no newline at the end.
CONTENT = {
    "train": "\n".join(f"the cat {i} sat\n" for i in range(2000)).encode(),
    "valid": b"the <unk> sat\n\non 7",
    "test": "on the m\u00fctze\n".encode(),
}
COUNTS = {"train": 11_999, "valid": 8, "test": 4}


class Tiny(downloaded.TextsBuilder):
    """A corpus of one's own; the tests say where it is to be had."""

    name = "glrnn_tiny"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Where TFDS keeps data."""
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "tfds"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, content in CONTENT.items():
        (folder / f"{split}.txt").write_bytes(content)
    return folder


class Server(ThreadingHTTPServer):
    """Serves a folder in several moods, the first part of the address."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked = []
        self.over = threading.Event()

    def address(self, mood):
        return f"http://127.0.0.1:{self.server_port}/{mood}/{{split}}.txt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        mood, name = self.path.strip("/").split("/")
        content = (self.server.folder / name).read_bytes()
        if mood == "hangs":
            self.server.over.wait()
            return
        if mood == "absent" or (mood == "half" and name != "train.txt"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mood in ("good", "half"):
            self.wfile.write(content)
        elif mood == "altered":
            self.wfile.write(content[:-1] + b"?")
        elif mood == "breaks":
            self.wfile.write(content[:-1])
        elif mood == "stalls":
            self.wfile.write(content[:-1])
            self.wfile.flush()
            self.server.over.wait()
        elif mood == "drips":
            for i in range(len(content)):
                self.wfile.write(content[i : i + 1])
                if self.server.over.wait(0.05):
                    return

    def log_message(self, *message):
        pass


@pytest.fixture
def serve():
    """Starts a server for a folder, any number of times."""
    servers = []

    def start(folder):
        server = Server(folder)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return server

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(serve, folder):
    return serve(folder)


@pytest.fixture
def to_be_had_at(monkeypatch):
    """Says where the tiny corpus is."""

    def say(*addresses):
        facts = {
            split: Text(hashlib.sha256(content).hexdigest(), COUNTS[split])
            for split, content in CONTENT.items()
        }
        source = Source("tiny", "for tests only", addresses, facts)
        monkeypatch.setattr(Tiny, "source", source, raising=False)

    say()
    return say


def closed():
    """An address at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/{{split}}.txt"


def splits(builder, manual_dir=None):
    """The tokens of each split."""
    texts = downloaded.texts(builder, manual_dir)
    return {
        split: [token for block in text.read(lambda units: None) for token in block]
        for split, text in texts.items()
    }


def read(folder):
    return {split: read_tokens(folder / f"{split}.txt") for split in CONTENT}


def nothing_is_prepared(root):
    return not (root / "glrnn_tiny" / "1.0.0").exists()


# Downloading.


def test_a_corpus_is_downloaded_and_prepared(
    server, folder, root, to_be_had_at, capsys
):
    to_be_had_at(server.address("good"))
    assert splits(Tiny) == read(folder)
    assert server.asked == ["/good/train.txt", "/good/valid.txt", "/good/test.txt"]
    printed = capsys.readouterr()
    assert printed.out == ""
    *steps, licence = printed.err.splitlines()
    assert steps == [
        f"tiny: downloading {server.address('good').format(split=split)}"
        for split in CONTENT
    ]
    assert licence == f"tiny: for tests only; kept in {root / 'glrnn_tiny' / '1.0.0'}"


def test_the_second_use_is_offline_and_silent(
    server, folder, to_be_had_at, capsys, monkeypatch
):
    to_be_had_at(server.address("good"))
    splits(Tiny)
    capsys.readouterr()

    def no_network(*arguments, **options):
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert splits(Tiny) == read(folder)
    assert len(server.asked) == 3
    assert capsys.readouterr() == ("", "")


FAILURES = {
    "absent": "HTTP Error 404: Not Found",
    "altered": "its SHA-256 is ",
    "breaks": "its SHA-256 is ",
    "hangs": "silent for 0.5 seconds",
    "stalls": "silent for 0.5 seconds",
    "drips": "silent for 0.5 seconds",
    "closed": "Connection refused",
    "unknown": "Name or service not known",
}


@pytest.fixture
def bad_address(server, monkeypatch):
    look_up = socket.getaddrinfo

    def no_such_name(host, *arguments):
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

    def address(mood):
        if mood == "unknown":
            return "http://nowhere.invalid/{split}.txt"
        return closed() if mood == "closed" else server.address(mood)

    return address


@pytest.mark.parametrize("mood", FAILURES)
def test_the_next_address_is_tried(
    server, folder, to_be_had_at, bad_address, mood, capsys
):
    to_be_had_at(bad_address(mood), server.address("good"))
    assert splits(Tiny) == read(folder)
    asked = [path for path in server.asked if path.startswith("/good")]
    assert asked == ["/good/train.txt", "/good/valid.txt", "/good/test.txt"]
    assert capsys.readouterr().err.count("for tests only") == 1


def test_only_what_is_missing_is_asked_of_the_next(server, folder, to_be_had_at):
    to_be_had_at(server.address("half"), server.address("good"))
    assert splits(Tiny) == read(folder)
    assert server.asked == [
        "/half/train.txt",
        "/half/valid.txt",
        "/good/valid.txt",
        "/good/test.txt",
    ]


@pytest.mark.parametrize("mood", FAILURES)
def test_no_address_is_one_message_within_seconds(
    server, folder, root, to_be_had_at, bad_address, mood
):
    addresses = [bad_address(mood), bad_address(mood)]
    to_be_had_at(*addresses)
    began = time.monotonic()
    with pytest.raises(UsageError) as error:
        splits(Tiny)
    assert time.monotonic() - began < 4
    message = str(error.value)
    first, second = (address.format(split="train") for address in addresses)
    assert message.startswith(f"cannot download tiny: {first}: ")
    assert f"; {second}: " in message
    assert message.count(FAILURES[mood]) == 2
    assert message.endswith(
        "; put train.txt, valid.txt and test.txt into a folder and give it with "
        "--manual-dir FOLDER"
    )
    assert "\n" not in message
    assert nothing_is_prepared(root)

    to_be_had_at(server.address("good"))
    assert splits(Tiny) == read(folder)


def test_a_wrong_checksum_is_named(server, to_be_had_at):
    to_be_had_at(server.address("altered"))
    found = hashlib.sha256(CONTENT["train"][:-1] + b"?").hexdigest()
    expected = hashlib.sha256(CONTENT["train"]).hexdigest()
    with pytest.raises(UsageError, match=f"its SHA-256 is {found}, not {expected};"):
        splits(Tiny)


def test_a_name_that_is_looked_up_for_ever_is_given_up(to_be_had_at, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: over.wait(9))
    to_be_had_at("http://slow.invalid/{split}.txt")
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"silent for 0\.5 seconds"):
        splits(Tiny)
    assert time.monotonic() - began < 4
    over.set()


@pytest.mark.parametrize("builder", [Ptb, Wikitext2])
def test_giving_up_takes_seconds(builder, monkeypatch):
    monkeypatch.undo()
    assert len(builder.source.addresses) >= 2
    assert len(builder.source.addresses) * download.PATIENCE <= 12


def test_what_was_downloaded_before_it_stopped_is_kept(serve, folder, to_be_had_at):
    first, second = serve(folder), serve(folder)
    to_be_had_at(first.address("half"))
    with pytest.raises(UsageError, match="404"):
        splits(Tiny)
    to_be_had_at(second.address("good"))
    assert splits(Tiny) == read(folder)
    assert second.asked == ["/good/valid.txt", "/good/test.txt"]


def test_a_damaged_download_is_not_taken_up(server, folder, root, to_be_had_at):
    kept = root / "downloads" / "glrnn_tiny" / "train.txt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT["train"][:-1])
    to_be_had_at(server.address("good"))
    assert splits(Tiny) == read(folder)
    assert kept.read_bytes() == CONTENT["train"]


# Files at hand.


def test_files_at_hand_are_taken(folder, to_be_had_at, capsys):
    assert splits(Tiny, folder) == read(folder)
    assert capsys.readouterr().err.count("\n") == 1
    shutil.rmtree(folder)
    assert splits(Tiny, folder)["test"] == ["on", "the", "m\u00fctze", EOS]


def test_files_at_hand_may_have_other_names(folder, to_be_had_at):
    expected = read(folder)
    for split in CONTENT:
        (folder / f"{split}.txt").rename(folder / f"wiki.{split}.tokens")
    assert splits(Tiny, folder) == expected


@pytest.mark.parametrize("split", CONTENT)
def test_an_altered_file_is_refused(folder, root, to_be_had_at, split):
    path = folder / f"{split}.txt"
    path.write_bytes(CONTENT[split] + b"\n")
    found = hashlib.sha256(CONTENT[split] + b"\n").hexdigest()
    expected = hashlib.sha256(CONTENT[split]).hexdigest()
    with pytest.raises(UsageError) as error:
        splits(Tiny, folder)
    assert str(error.value) == (
        f"{path} is not the {split} split of tiny: its SHA-256 is {found}, not "
        f"{expected}; another version of the texts is given with --data {folder}"
    )
    assert nothing_is_prepared(root)


def test_a_missing_file_is_refused(folder, root, to_be_had_at):
    (folder / "valid.txt").unlink()
    with pytest.raises(
        UsageError,
        match=rf"{folder} has no valid\.txt; .* takes the texts of tiny",
    ):
        splits(Tiny, folder)
    with pytest.raises(UsageError, match=r"cannot read .*train\.txt: Not a directory"):
        splits(Tiny, folder / "train.txt")
    assert nothing_is_prepared(root)


def test_files_at_hand_are_of_no_use_to_what_is_not_downloaded(folder):
    with pytest.raises(UsageError, match=f"--manual-dir {folder} is of no use to pyth"):
        data.load("python-docs", manual_dir=folder)
    with pytest.raises(UsageError, match=f"is of no use to {folder}, which is not "):
        data.load(folder, manual_dir=folder)


# Preparing.


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, UsageError])
def test_an_interrupted_preparation_leaves_nothing(
    folder, root, to_be_had_at, monkeypatch, interruption, capsys
):
    def interrupted(self, tokens):
        yield 0, {"tokens": "the"}
        raise interruption

    with monkeypatch.context() as patch, pytest.raises(interruption):
        patch.setattr(Tiny, "_generate_examples", interrupted)
        splits(Tiny, folder)
    assert nothing_is_prepared(root)
    assert capsys.readouterr().err == ""
    assert splits(Tiny, folder) == read(folder)


PROGRAM = """
import json, os, sys
from glrnn.data.corpora import downloaded
from glrnn.data.corpora.download import Source, Text

class Tiny(downloaded.TextsBuilder):
    name = "glrnn_tiny"
    source = Source(
        "tiny", "for tests only", (), {k: Text(*v) for k, v in json.load(sys.stdin)}
    )

    def _generate_examples(self, tokens):
        yield from super()._generate_examples(tokens)
        if sys.argv[2] == "killed":
            os._exit(9)

texts = downloaded.texts(Tiny, sys.argv[1])
assert sum(map(len, texts["valid"].read(lambda units: None))) == 8
print("tensorflow" in sys.modules)
"""


def test_a_killed_preparation_leaves_nothing_and_tensorflow_is_not_imported(
    folder, to_be_had_at, tmp_path
):
    # A TensorFlow that is there to be imported; TFDS must not.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "PYTHONPATH": path}

    def run(mood):
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), mood],
            input=json.dumps(list(Tiny.source.texts.items())),
            capture_output=True,
            text=True,
            env=environment,
        )

    assert run("killed").returncode == 9
    assert os.listdir(tmp_path / "glrnn_tiny")
    assert nothing_is_prepared(tmp_path)
    finished = run("lives")
    assert finished.stdout == "False\n"
    assert finished.stderr == (
        f"tiny: for tests only; kept in {tmp_path}/glrnn_tiny/1.0.0\n"
    )


def test_a_damaged_preparation_names_the_folder_to_delete(server, root, to_be_had_at):
    to_be_had_at(server.address("good"))
    good = splits(Tiny)
    prepared = root / "glrnn_tiny" / "1.0.0"
    whole = root / "whole"
    shutil.copytree(prepared, whole)
    record = next(prepared.glob("*train.array_record*"))
    content = record.read_bytes()

    flipped = bytearray(content)
    flipped[content.index(b"\0" * 64, 1000) // 2] ^= 1
    other = next(prepared.glob("*test.array_record*"))
    facts = prepared / "dataset_info.json"
    for damage in (
        lambda: record.write_bytes(flipped),
        lambda: record.write_bytes(content[:100]),
        lambda: record.write_bytes(b""),
        lambda: record.unlink(),
        lambda: shutil.copy(other, record),
        lambda: facts.write_text("{"),
        lambda: facts.unlink(),
    ):
        damage()
        with pytest.raises(UsageError, match=f"{prepared} is damaged; delete it, and "):
            splits(Tiny)
        shutil.rmtree(prepared)
        shutil.copytree(whole, prepared)
        assert splits(Tiny) == good

    # What was downloaded is still there.
    shutil.rmtree(prepared)
    assert splits(Tiny) == good
    assert len(server.asked) == 3


def test_counts_that_are_not_the_published_ones_are_refused(
    folder, to_be_had_at, monkeypatch
):
    monkeypatch.setitem(COUNTS, "valid", 7)
    to_be_had_at()
    with pytest.raises(UsageError, match="8 valid tokens, not 7"):
        splits(Tiny, folder)


def test_a_folder_that_cannot_be_written_is_one_message(
    folder, tmp_path, to_be_had_at, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(
        UsageError, match=f"cannot prepare tiny in {tmp_path}/file: Not a directory"
    ):
        splits(Tiny, folder)


def test_a_full_disk_is_one_message(folder, root, to_be_had_at, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(
            UsageError, match=rf"cannot prepare tiny in {root}: .*File too large"
        ):
            splits(Tiny, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert nothing_is_prepared(root)
    assert splits(Tiny, folder) == read(folder)


def test_another_process_may_prepare_it_first(
    folder, root, to_be_had_at, monkeypatch, capsys
):
    def overtaken(self, tokens):
        if nothing_is_prepared(root):
            with monkeypatch.context() as patch:
                patch.setattr(Tiny, "_generate_examples", generate)
                splits(Tiny, folder)
        return generate(self, tokens)

    generate = Tiny._generate_examples
    monkeypatch.setattr(Tiny, "_generate_examples", overtaken)
    assert splits(Tiny, folder) == read(folder)
    assert capsys.readouterr().err.count("for tests only") == 1


def test_without_array_record_there_is_one_message(to_be_had_at, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="tiny needs the package array_record, which "):
        splits(Tiny)


# The published corpora.


@pytest.mark.parametrize(
    ("name", "builder", "sizes", "vocabulary_size", "eos", "unk"),
    [
        ("ptb", Ptb, (929_589, 73_760, 82_430), 10_000, 24, 26),
        ("wikitext-2", Wikitext2, (2_088_628, 217_646, 245_569), 33_278, 0, 9),
    ],
)
def test_the_published_counts_hold(
    corpora, serve, monkeypatch, name, builder, sizes, vocabulary_size, eos, unk
):
    server = serve(corpora / name)
    addresses = (server.address("altered"), server.address("good"))
    monkeypatch.setattr(builder, "source", builder.source._replace(addresses=addresses))
    corpus = data.load(name)
    assert (corpus.train.size, corpus.valid.size, corpus.test.size) == sizes
    assert len(corpus.vocabulary) == vocabulary_size
    assert corpus.vocabulary.index[EOS] == eos
    assert corpus.vocabulary.index[UNK] == unk
    folder = data.load(corpora / name)
    assert corpus.vocabulary == folder.vocabulary
    assert data.fingerprint(corpus) == data.fingerprint(folder)
    assert len(server.asked) == 4


@pytest.mark.parametrize("name", ["ptb", "wikitext-2"])
def test_a_command_line_takes_names_and_files_at_hand(name, tmp_path, capsys):
    given = ["--data", name, "--manual-dir", str(tmp_path), "--workdir", "unused"]
    with pytest.raises(SystemExit) as exit_:
        train.main(given)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} has no train.txt and no valid.txt and no test.txt; a data "
        "set is a folder with train.txt, valid.txt and test.txt; --manual-dir takes "
        f"the texts of {name}, byte for byte\n"
    )
    assert not pathlib.Path("unused").exists()
