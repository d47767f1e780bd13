"""`python-docs`: the documentation that comes with Python, as a small corpus.

It needs no download: the texts are the help texts of `pydoc_data.topics` and the
docstrings of the standard library's source files, which are parsed and never imported.
So **it differs between Python versions**, and between distributions that leave sources
out. Compare perplexities on it under one interpreter only; a model is evaluated with
the vocabulary that was stored when it was trained.

The corpus is the paragraphs of prose, each once: at least 8 words, nine tenths of them
of letters only, and no interpreter session. They are lower-cased and split into words
and the marks `. , ; : ? ! ( )`; everything else is markup and is dropped. A paragraph
is a line and ends in `<eos>`. Words seen fewer than 3 times in train become `<unk>`.
"""

import ast
import collections
import functools
import os
import re
import sysconfig
import zlib
from collections.abc import Iterator

from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK
from glrnn.errors import UsageError

# Third-party packages, tests, applications and character tables; `pydoc_data` is read
# as data.
SKIPPED = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
BLANK_LINE = re.compile(r"\n\s*\n")
TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.,;:?!()]")
AROUND_A_WORD = "\"'`*_.,;:?!()[]<>"
MIN_WORDS = 8
MIN_OF_LETTERS = 0.9
MIN_COUNT = 3


def _topics() -> Iterator[str]:
    """The help texts of the language reference, where they are installed."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name in sorted(topics):
        yield topics[name]


def _sources(folder: str) -> Iterator[bytes]:
    """The Python files of a folder and of the folders in it, by name."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        for file in sorted(files):
            if file.endswith(".py"):
                with open(os.path.join(parent, file), "rb") as source:
                    yield source.read()


def _docstrings(node: ast.AST) -> Iterator[str]:
    """The docstring of a module, class or function, then of those inside it."""
    if isinstance(
        node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    ):
        yield ast.get_docstring(node) or ""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler):
            yield from _docstrings(child)


def _texts() -> Iterator[str]:
    yield from _topics()
    for source in _sources(sysconfig.get_path("stdlib")):
        yield from _docstrings(ast.parse(source))


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is prose: long enough, of plain words, and no session.

    Example:
        >>> is_prose("Return the number of items in a container, or zero.")
        True
        >>> is_prose("Return the sum, 3, of 1 and 2 as in 1 + 2.")
        False
    """
    words = [word.strip(AROUND_A_WORD) for word in paragraph.split()]
    return (
        len(words) >= MIN_WORDS
        and ">>>" not in paragraph
        and sum(word.isalpha() for word in words) >= MIN_OF_LETTERS * len(words)
    )


def tokenize(paragraph: str) -> list[str]:
    """The words of a paragraph, lower-cased, and its punctuation marks.

    Example:
        >>> tokenize("The *built-in* type's name (see `int`) isn't `__int__`.")
        ['the', 'built-in', "type's", 'name', '(', 'see', 'int', ')', "isn't", 'int', \
'.']
    """
    return TOKEN.findall(paragraph.lower())


@functools.cache
def paragraphs() -> tuple[str, ...]:
    """The paragraphs of prose, each once, in the order of the sources.

    Raises:
        UsageError: if this Python comes without its documentation.

    Example:
        >>> min(len(paragraph.split()) for paragraph in paragraphs())
        8
    """
    found = (" ".join(p.split()) for text in _texts() for p in BLANK_LINE.split(text))
    kept = tuple(dict.fromkeys(filter(is_prose, found)))
    if not kept:
        raise UsageError(
            "no python-docs: this Python comes without the sources of its standard "
            "library; give a folder with train.txt, valid.txt and test.txt"
        )
    return kept


def splits() -> dict[str, list[str]]:
    """The tokens of train, valid and test: about 8, 1 and 1 tenths of the paragraphs.

    The CRC-32 of a paragraph chooses its split, so that every part of the documentation
    is in all three, and a paragraph stays in its split whatever else changes.

    Raises:
        UsageError: if this Python comes without its documentation.

    Example:
        >>> {split: tokens[-1] for split, tokens in splits().items()}
        {'train': '<eos>', 'valid': '<eos>', 'test': '<eos>'}
    """
    tokens: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    tenths = ["train"] * 8 + ["valid", "test"]
    for paragraph in paragraphs():
        split = tenths[zlib.crc32(paragraph.encode()) % len(tenths)]
        tokens[split] += [*tokenize(paragraph), EOS]
    counts = collections.Counter(tokens["train"])
    return {
        split: [word if counts[word] >= MIN_COUNT else UNK for word in words]
        for split, words in tokens.items()
    }
