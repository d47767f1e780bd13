"""Corpora that are downloaded: checked by SHA-256, prepared once, then read offline.

A corpus is three texts, or an archive that holds them, or one text of characters. Its
module has a builder of tensorflow-datasets (TFDS) with the facts as its `source`; this
module has what the builders have in common.
"""

import contextlib
import functools
import importlib.util
import io
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from glrnn.data.corpora import archives
from glrnn.data.corpora.archives import Paths
from glrnn.data.corpora.download import FILES, Source, check, download
from glrnn.data.encoding import Advance, SplitText
from glrnn.data.texts import PathLike
from glrnn.data.tokens import EOS, LINE_END, Blocks, Read, read_blocks
from glrnn.errors import UsageError

# The tokens of a record, and the records that are read at a time.
CHUNK, RECORDS = 4096, 64


class TextsBuilder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of a corpus of three texts.

    A record is a chunk of tokens joined by spaces, and the records are in order. They
    are stored as array_record, which is read without TensorFlow. A corpus is a subclass
    with a `name` for its folder and a `source`.

    Args:
        manual_dir: A folder with the texts, instead of a download.
        **kwargs: The arguments of `tfds.core.GeneratorBasedBuilder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    source: Source

    def __init__(self, *, manual_dir: PathLike | None = None, **kwargs: str) -> None:
        super().__init__(file_format="array_record", **kwargs)
        self._manual_dir = manual_dir

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"tokens": tfds.features.Text()}),
            disable_shuffling=True,
            license=self.source.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, str]]]]:
        folder = pathlib.Path(dl_manager.download_dir, self.name)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = self._blocks(self._paths(folder))
        return {split: self._generate_examples(each) for split, each in blocks.items()}

    def _paths(self, folder: pathlib.Path) -> Paths:
        """The files of each text, downloaded into a folder or at hand."""
        archive, extracted = self.source.archive, folder / _extracted()
        if self._manual_dir is not None:
            given = pathlib.Path(self._manual_dir)
            if archive is not None:
                return archives.at_hand(self.source, given, extracted)
            found = check(self.source, given)
            return {split: [path] for split, path in found.items()}
        download(self.source, folder)
        if archive is None:
            return {split: [folder / f"{split}.txt"] for split in self.source.texts}
        return archives.extract(archive, folder / archive.name, extracted)

    def _blocks(self, paths: Paths) -> Mapping[str, Iterable[list[str]]]:
        """The tokens of each split, in blocks; here the words of its files."""
        return {split: _words(each) for split, each in paths.items()}

    def _generate_examples(
        self, blocks: Iterable[list[str]]
    ) -> Iterator[tuple[int, dict[str, str]]]:
        key = 0
        for tokens in blocks:
            for start in range(0, len(tokens), CHUNK):
                yield key, {"tokens": " ".join(tokens[start : start + CHUNK])}
                key += 1


def _extracted() -> str:
    """Where this process has the texts of an archive until it has read them."""
    return f"extracted-{os.getpid()}"


def _words(paths: Sequence[pathlib.Path]) -> Iterator[list[str]]:
    for path in paths:
        for block in read_blocks(path, lambda units: None):
            yield [EOS if word == LINE_END else word for word in block]


def texts(
    builder: type[TextsBuilder], manual_dir: PathLike | None = None
) -> dict[str, SplitText]:
    """The text of each split, prepared at the first call.

    They are stored where TFDS stores data: in `TFDS_DATA_DIR`, or
    `~/tensorflow_datasets`.

    Args:
        builder: The builder of the corpus.
        manual_dir: A folder with the texts, instead of a download; a corpus that is
            already prepared needs neither.

    Raises:
        UsageError: if no address has the texts, those in `manual_dir` are others, or
            the prepared corpus cannot be written; and, when a text is read, if it
            cannot be.
    """
    source = builder.source
    if importlib.util.find_spec("array_record") is None:
        raise UsageError(
            f"{source.name} needs the package array_record, which is not "
            f"installed here; give a folder with {FILES} as --data"
        )
    root = pathlib.Path(constants.DATA_DIR).expanduser()
    folder = root / builder.name / str(builder.VERSION)
    if not os.path.exists(folder):
        _prepare(builder, root, folder, manual_dir)
    return {
        split: SplitText(
            f"the {split} split of {source.name}",
            text.num_tokens or 0,
            _digest(builder, split),
            functools.partial(_read, builder, root, folder, split),
        )
        for split, text in source.texts.items()
    }


def _digest(builder: type[TextsBuilder], split: str) -> str:
    """What tells a prepared split from any other: its name, and what it is made of."""
    archive, text = builder.source.archive, builder.source.texts[split]
    made_of = text.sha256 if archive is None else archive.sha256
    return f"{builder.name} {builder.VERSION} {split} {made_of}"


def _prepare(
    builder: type[TextsBuilder],
    root: pathlib.Path,
    folder: pathlib.Path,
    manual_dir: PathLike | None,
) -> None:
    source = builder.source
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = builder(data_dir=str(root), manual_dir=manual_dir)
            made.download_and_prepare(download_config=config)
    except (OSError, RuntimeError) as error:  # array_record's are of the second kind
        if os.path.exists(folder):  # another process was faster
            return
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot prepare {source.name} in {root}: {reason}") from error
    finally:
        extracted = root / "downloads" / builder.name / _extracted()
        shutil.rmtree(extracted, ignore_errors=True)
    print(f"{source.name}: {source.licence}; kept in {folder}", file=sys.stderr)


def _read(
    builder: type[TextsBuilder],
    root: pathlib.Path,
    folder: pathlib.Path,
    split: str,
    advance: Advance,
) -> Blocks:
    """The tokens of a split, record by record."""
    num_tokens = 0
    try:
        records = builder(data_dir=str(root)).as_data_source(split=split)
        for start in range(0, len(records), RECORDS):
            stop = min(start + RECORDS, len(records))
            chunks = records.__getitems__(range(start, stop))
            block = b" ".join(chunk["tokens"] for chunk in chunks).decode().split(" ")
            num_tokens += len(block)
            advance(len(block))
            yield block
        expected = builder.source.texts[split].num_tokens
        if expected is not None and num_tokens != expected:
            raise ValueError(f"{num_tokens} {split} tokens, not {expected}")
    except PermissionError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    except Exception as error:  # whatever array_record, protobuf and TFDS make of it
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{folder} is damaged; delete it, and it is prepared anew: {reason}"
        ) from error
    return Read(_digest(builder, split), num_tokens)
