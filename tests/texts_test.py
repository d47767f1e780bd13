"""Texts from files, devices, pipes and standard input."""

import io
import os
import socket
import sys
import threading
import time

import pytest

from glrnn.data import texts
from glrnn.errors import UsageError


def hostile(folder, kind):
    """What could be read for ever, or never."""
    path = folder / "text.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)  # a longer path would not fit
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "terabyte":
        with path.open("wb") as file:
            file.truncate(2**40)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "it is a pipe, not a file"),
        ("socket", "it is a socket, not a file"),
        ("device", "it is a device, not a file"),
        ("terabyte", "it has 1,099,511,627,776 bytes, and a text at most"),
    ],
)
def test_what_has_no_end_is_refused(tmp_path, monkeypatch, kind, message):
    monkeypatch.chdir(tmp_path)
    path = hostile(tmp_path, kind)
    for read in (texts.read_text, lambda path: texts.read_given(str(path))):
        with pytest.raises(UsageError, match=f"cannot read {path}: {message}"):
            read(path)


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "a").write_text("the cat")
    (tmp_path / "b").symlink_to("a")
    assert texts.read_text(tmp_path / "b") == "the cat"


class Endless(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = b"y" * len(buffer)
        return len(buffer)


def test_standard_input_is_read_up_to_a_limit(monkeypatch):
    def given(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))

    given(io.BytesIO("\ufeffthe cat\n".encode()))
    assert texts.read_given("-") == "the cat\n"
    given(io.BytesIO(b"\xff"))
    with pytest.raises(UsageError, match="standard input is not UTF-8 text: invalid"):
        texts.read_given("-")
    monkeypatch.setattr(texts, "LARGEST", 2 * texts.BLOCK)
    given(Endless())
    with pytest.raises(UsageError, match="standard input has more than 2,097,152 byte"):
        texts.read_given("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="cannot read standard input: it is closed"):
        texts.read_given("-")


class Terminal(io.RawIOBase):
    """Lines, each followed by the end of the text, as Ctrl-D gives it."""

    def __init__(self, *lines):
        self.blocks = [block for line in lines for block in (line, b"")]

    def readable(self):
        return True

    def readinto(self, buffer):
        block = self.blocks.pop(0)
        buffer[: len(block)] = block
        return len(block)


def test_one_end_of_standard_input_is_enough():
    terminal = Terminal(b"the cat\n", b"sat\n")
    found = texts.read_stream(io.BufferedReader(terminal), "standard input")
    assert found == "the cat\n"
    assert terminal.blocks == [b"sat\n", b""]


def test_the_pipe_of_a_shell_is_read():
    reader, writer = os.pipe()

    def write():
        with open(writer, "wb", buffering=0) as file:
            for block in (b"the ", b"cat"):  # a block that comes later is read too
                file.write(block)
                time.sleep(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    assert texts.read_given(f"/dev/fd/{reader}") == "the cat"
    thread.join()
    os.close(reader)
    with pytest.raises(UsageError, match=r"cannot read /dev/fd/9999: No such file"):
        texts.read_given("/dev/fd/9999")


def test_standard_input_that_does_not_block_is_waited_for(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write():
        with open(writer, "wb", buffering=0) as file:
            for block in (b"the ", b"cat"):
                time.sleep(0.1)
                file.write(block)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reader, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert texts.read_given("-") == "the cat"
        assert not os.get_blocking(reader)
    thread.join()
