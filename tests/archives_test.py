"""Corpora that come in an archive, on small ones of the same form."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tensorflow_datasets.core import constants

from glrnn import data
from glrnn.data.corpora import download, downloaded
from glrnn.data.corpora.characters import CharactersBuilder
from glrnn.data.corpora.download import Archive, Member
from glrnn.data.corpora.enwik8 import Enwik8
from glrnn.data.corpora.lm1b import Lm1b
from glrnn.data.corpora.text8 import Text8
from glrnn.data.corpora.wikitext103 import Wikitext103
from glrnn.data.tokens import EOS
from glrnn.errors import UsageError

WORDS = {
    "train": " \n = Valkyria = \n \n the <unk> @-@ cat \n" * 30,
    "valid": " \n = A = \n",
    "test": " the cat \n",
}
TEXT8 = b" anarchism originated as a term of abuse" * 5
ENWIK8 = "<mediawiki>\n  <é>\n".encode() * 10


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def zipped(contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(contents):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def wikitext103():
    contents = {f"wiki.{split}.tokens": text.encode() for split, text in WORDS.items()}
    archive = zipped(
        {"wikitext-103/": b""}
        | {f"wikitext-103/{name}": content for name, content in contents.items()}
    )
    sums = {
        name: hashlib.sha1(content).hexdigest() for name, content in contents.items()
    }
    counts = {
        split: len(text.split()) + text.count("\n") for split, text in WORDS.items()
    }
    return Wikitext103, archive, contents, sums, counts


def lm1b():
    """In no order, with files that belong to no split."""
    top = "1-billion-word-language-modeling-benchmark-r13output"
    shards = {
        f"training-monolingual.tokenized.shuffled/news.en-{i:05}-of-00100": text
        for i, text in {10: "c d a\n" * 3, 2: "a b\na e\n", 1: "the a\n" * 4}.items()
    } | {
        f"heldout-monolingual.tokenized.shuffled/news.en.heldout-{i:05}-of-00050": text
        for i, text in enumerate(["the test\n", "a valid the\n", "no one reads this\n"])
    }
    contents = {f"{top}/{name}": text.encode() for name, text in shards.items()}
    archive = tarred({f"{top}/README": b"no text"} | contents)
    counts = {"train": 8 + 4 + 9 + 4 + 2 + 3, "valid": None, "test": None}
    return Lm1b, archive, {}, {}, counts


def text8():
    counts = {"train": 180, "valid": 10, "test": 10}
    return (
        Text8,
        zipped({"text8": TEXT8}),
        {"text8": TEXT8},
        {"text8": sha256(TEXT8)},
        counts,
    )


def enwik8():
    counts = {"train": 160, "valid": 15, "test": 15}
    sums = {"enwik8": sha256(ENWIK8)}
    return Enwik8, zipped({"enwik8": ENWIK8}), {"enwik8": ENWIK8}, sums, counts


CORPORA = {
    "wikitext-103": wikitext103,
    "lm1b": lm1b,
    "text8": text8,
    "enwik8": enwik8,
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Where TFDS keeps data."""
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "tfds"


@pytest.fixture
def small(monkeypatch):
    """Makes a builder one of a small corpus; returns the files that it is made of."""

    def make(name):
        builder, content, contents, sums, counts = CORPORA[name]()
        source = builder.source
        members = {
            split: Member(member.path, sums.get(member.path.split("/")[-1], ""))
            for split, member in source.archive.members.items()
        }
        archive = Archive(source.archive.name, sha256(content), members)
        texts = {
            split: text._replace(num_tokens=counts[split])
            for split, text in source.texts.items()
        }
        changed = source._replace(archive=archive, texts=texts, addresses=())
        monkeypatch.setattr(builder, "source", changed)
        return builder, {archive.name: content}, contents

    return make


@pytest.fixture
def serve(tmp_path):
    """Serves files, and returns the address of their folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *message):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()

    def start(files):
        write(folder, files)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    server.shutdown()
    server.server_close()


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def decoded(corpus):
    return {
        split: corpus.vocabulary.decode(getattr(corpus, split)) for split in data.SPLITS
    }


def expected(name):
    if name == "wikitext-103":
        return {
            split: text.replace("\n", f" {EOS} ").split()
            for split, text in WORDS.items()
        }
    if name == "lm1b":
        train = "the a\n" * 4 + "a b\na e\n" + "c d a\n" * 3
        texts = {"train": train, "valid": "a valid the\n", "test": "the test\n"}
        # What the training set has three times or more; `b`, `e` and others are rare.
        known = {"the", "a", "c", "d", "\n"}
        return {
            split: [
                {"\n": EOS}.get(word, word if word in known else "<unk>")
                for word in text.replace("\n", " \n ").split(" ")
                if word
            ]
            for split, text in texts.items()
        }
    if name == "text8":
        symbols = [*TEXT8.decode().replace(" ", "_")]
        return {
            "train": symbols[:180],
            "valid": symbols[180:190],
            "test": symbols[190:],
        }
    symbols = [EOS if byte == 10 else str(byte) for byte in ENWIK8]
    return {"train": symbols[:160], "valid": symbols[160:175], "test": symbols[175:]}


@pytest.mark.parametrize("name", CORPORA)
def test_an_archive_is_downloaded_prepared_and_kept(
    name, small, serve, root, monkeypatch, capsys
):
    builder, archive, _ = small(name)
    (file,) = archive
    addresses = (f"{serve({})}/gone/{file}", f"{serve(archive)}/{file}")
    monkeypatch.setattr(builder, "source", builder.source._replace(addresses=addresses))
    corpus = data.load(name)
    assert decoded(corpus) == expected(name)
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == [f"{name}: downloading {address}" for address in addresses]
    assert told[2].startswith(f"{name}: {builder.source.licence}; kept in {root}")
    # The archive is kept, its texts are not; and nothing is read another time.
    assert os.listdir(root / "downloads" / builder.name) == [file]
    monkeypatch.setattr(downloaded, "_read", lambda *arguments: pytest.fail("read"))
    again = data.load(name)
    assert decoded(again) == expected(name)
    assert data.fingerprint(again) == data.fingerprint(corpus)


@pytest.mark.parametrize("name", CORPORA)
def test_an_archive_at_hand_is_taken(name, small, tmp_path, root):
    builder, archive, _ = small(name)
    corpus = data.load(name, manual_dir=write(tmp_path / "hand", archive))
    assert decoded(corpus) == expected(name)
    downloads = root / "downloads" / builder.name
    assert not downloads.exists() or os.listdir(downloads) == []


@pytest.mark.parametrize("name", ["wikitext-103", "text8", "enwik8"])
def test_texts_at_hand_are_taken_by_their_checksums(name, small, tmp_path):
    _, _, texts = small(name)
    folder = write(tmp_path / "hand", texts)
    (changed,) = {name: texts[name] + b" " for name in [*texts][:1]}.items()
    write(folder, dict([changed]))
    with pytest.raises(
        UsageError, match=rf"{changed[0]} is not that of {name}: its SHA-"
    ):
        data.load(name, manual_dir=folder)
    write(folder, texts)
    assert decoded(data.load(name, manual_dir=folder)) == expected(name)


@pytest.mark.parametrize("name", CORPORA)
def test_what_is_not_the_archive_is_refused(name, small, tmp_path, root):
    builder, archive, _ = small(name)
    ((file, content),) = archive.items()
    folder = write(tmp_path / "hand", {file: content + b" "})
    with pytest.raises(UsageError) as error:
        data.load(name, manual_dir=folder)
    assert str(error.value) == (
        f"{folder / file} is not that of {name}: its SHA-256 is "
        f"{sha256(content + b' ')}, not {sha256(content)}"
    )
    (folder / file).unlink()
    with pytest.raises(
        UsageError, match=rf"{folder} has no {file}.*--manual-dir takes"
    ):
        data.load(name, manual_dir=folder)
    with pytest.raises(UsageError, match=r"gone: it is no folder"):
        data.load(name, manual_dir=folder / "gone")
    with pytest.raises(
        UsageError, match=f"cannot download {name}: .*put {file} into a"
    ):
        data.load(name)
    assert not (root / builder.name / "1.0.0").exists()


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        (
            "wikitext-103",
            {"wikitext-103/wiki.train.tokens": b"a\n"},
            r"has no wikitext-103/wiki\.valid\.tokens",
        ),
        ("text8", {"text8": TEXT8[:-1] + b"!"}, "has the byte 33: no symbol"),
    ],
)
def test_an_archive_of_something_else_is_told(
    small, tmp_path, monkeypatch, name, contents, message
):
    builder, _, _ = small(name)
    content = zipped(contents)
    archive = builder.source.archive._replace(sha256=sha256(content))
    monkeypatch.setattr(builder, "source", builder.source._replace(archive=archive))
    folder = write(tmp_path / "hand", {archive.name: content})
    with pytest.raises(UsageError, match=message):
        data.load(name, manual_dir=folder)


# The facts of the real ones.


def test_the_symbols_of_characters_are_told_apart():
    assert [s for s in Text8.symbols if s] == ["_", *"abcdefghijklmnopqrstuvwxyz"]
    assert len({*Enwik8.symbols}) == 256
    assert (Enwik8.symbols[10], Enwik8.symbols[32], Enwik8.symbols[255]) == (
        *(EOS, "32"),
        "255",
    )
    assert all(len(symbol.split()) == 1 for symbol in Enwik8.symbols)


@pytest.mark.parametrize("name", CORPORA)
def test_every_checksum_is_one_and_every_corpus_has_its_texts(name):
    builder = CORPORA[name]()[0]
    source = builder.source
    assert source.name == name
    assert len(source.addresses) >= 2
    sums = [member.checksum for member in source.archive.members.values()]
    assert {len(each) for each in sums} <= {0, 40, 64}
    assert len(source.archive.sha256) == 64
    if issubclass(builder, CharactersBuilder):
        sizes = [text.num_tokens for text in source.texts.values()]
        assert sizes == [90_000_000, 5_000_000, 5_000_000]
    assert np.prod([text.sha256 == "" for text in source.texts.values()])
