"""The corpus that a run was trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from glrnn import data
from glrnn.console.corpus import load_corpus
from glrnn.errors import UsageError
from glrnn.storage.run_folder import Run


def corpus_of(
    run: Run,
    moved_to: str | None,
    manual_dir: Path | None,
    splits: Sequence[str],
    say: Callable[[str], None],
) -> data.Corpus:
    """Loads the corpus of a run, in the run's vocabulary.

    Args:
        run: The run.
        moved_to: Where the texts are now, a folder or a name; `None` if they have not
            moved.
        manual_dir: A folder with the texts of a corpus that is otherwise downloaded.
        splits: The splits that are needed, if the texts have moved.
        say: Called with a line if the texts are no longer what the run was trained on.

    Raises:
        UsageError: As `glrnn.data.load`; or the corpus was never in files.
    """
    if moved_to is None:
        where = run.origin.data
        if where == data.IN_MEMORY:
            raise UsageError(
                f"{run.folder} was trained on {where}; give its texts by --data"
            )
        corpus = load_corpus(where, run.vocabulary, manual_dir)
        if data.fingerprint(corpus) != run.origin.sha256:
            say(f"note: {where} is no longer what {run.folder} was trained on")
        return corpus
    corpus = load_corpus(moved_to, run.vocabulary, manual_dir, splits=splits)
    began = run.origin.splits_sha256
    others = [
        split
        for split, found in data.split_fingerprints(corpus).items()
        if found != began.get(split, found)
    ]
    if others:
        say(
            f"note: {moved_to} is not what {run.folder} was trained on: it has "
            f"another {' and another '.join(others)} split"
        )
    return corpus
