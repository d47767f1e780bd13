"""Corpora that are downloaded: checked by SHA-256, prepared once, then read offline.

A corpus is three texts. Its module has a builder of tensorflow-datasets (TFDS) with the
facts as its `source`; this module has what the builders have in common.
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import sys
from collections.abc import Iterator

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from glrnn.data.corpora.download import FILES, Source, check, download
from glrnn.data.texts import PathLike
from glrnn.data.tokens import read_tokens
from glrnn.errors import UsageError

CHUNK = 4096


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
        if self._manual_dir is None:
            folder = pathlib.Path(dl_manager.download_dir, self.name)
            folder.mkdir(exist_ok=True)
            download(self.source, folder)
            paths = {split: folder / f"{split}.txt" for split in self.source.texts}
        else:
            paths = check(self.source, pathlib.Path(self._manual_dir))
        return {
            split: self._generate_examples(read_tokens(path))
            for split, path in paths.items()
        }

    def _generate_examples(
        self, tokens: list[str]
    ) -> Iterator[tuple[int, dict[str, str]]]:
        for start in range(0, len(tokens), CHUNK):
            yield start, {"tokens": " ".join(tokens[start : start + CHUNK])}


def splits(
    builder: type[TextsBuilder], manual_dir: PathLike | None = None
) -> dict[str, list[str]]:
    """The tokens of each split, prepared at the first call.

    They are stored where TFDS stores data: in `TFDS_DATA_DIR`, or
    `~/tensorflow_datasets`.

    Args:
        builder: The builder of the corpus.
        manual_dir: A folder with the texts, instead of a download; a corpus that is
            already prepared needs neither.

    Raises:
        UsageError: if no address has the texts, those in `manual_dir` are others, or
            the prepared corpus cannot be written or read.
    """
    if importlib.util.find_spec("array_record") is None:
        raise UsageError(
            f"{builder.source.name} needs the package array_record, which is not "
            f"installed here; give a folder with {FILES} as --data"
        )
    root = pathlib.Path(constants.DATA_DIR).expanduser()
    folder = root / builder.name / str(builder.VERSION)
    if not os.path.exists(folder):
        _prepare(builder, root, folder, manual_dir)
    try:
        tokens = _read(builder(data_dir=str(root)))
    except PermissionError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    except Exception as error:  # whatever array_record, protobuf and TFDS make of it
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{folder} is damaged; delete it, and it is prepared anew: {reason}"
        ) from error
    return tokens


def _prepare(
    builder: type[TextsBuilder],
    root: pathlib.Path,
    folder: pathlib.Path,
    manual_dir: PathLike | None,
) -> None:
    source = builder.source
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder(data_dir=str(root), manual_dir=manual_dir).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (OSError, RuntimeError) as error:  # array_record's are of the second kind
        if os.path.exists(folder):  # another process was faster
            return
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot prepare {source.name} in {root}: {reason}") from error
    print(f"{source.name}: {source.licence}; kept in {folder}", file=sys.stderr)


def _read(builder: TextsBuilder) -> dict[str, list[str]]:
    records = builder.as_data_source()
    tokens = {
        split: [
            token
            for record in records[split]
            for token in record["tokens"].decode().split(" ")
        ]
        for split in builder.source.texts
    }
    for split, text in builder.source.texts.items():
        if len(tokens[split]) != text.num_tokens:
            raise ValueError(
                f"{len(tokens[split])} {split} tokens, not {text.num_tokens}"
            )
    return tokens
