"""The texts whose sentences are scored."""

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from glrnn.data.texts import opened
from glrnn.data.tokens import EOS
from glrnn.scoring.sentences import Sentence, read_sentences
from glrnn.scoring.trained import Trained


def sentences_of(
    names: Sequence[str],
    trained: Trained,
    keyed: bool,
    say: Callable[[str], None],
) -> Iterator[Sentence]:
    """The sentences of some texts, numbered throughout.

    Args:
        names: The files; `-` is standard input, as are none.
        trained: The model.
        keyed: Whether they are lists of candidates.
        say: Called with a line, once for each text, for each thing that looks wrong:
            lines with an `<eos>` of their own, and words that the normal form NFC would
            make known.

    Raises:
        UsageError: As `read_sentences`.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> trained = untrained(Vocabulary(("<eos>", "the")), Config())
        >>> list(sentences_of(["nowhere.txt"], trained, False, print))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    before = 0
    for name in names or ("-",):
        told = "standard input" if name == "-" else name
        last = 0
        with opened(name) as stream:
            lines = read_sentences(stream, trained.vocabulary, told, trained.eos, keyed)
            for sentence in _warned(lines, trained, told, say):
                last = sentence.line
                yield sentence._replace(line=before + last)
        before += last


def _warned(
    sentences: Iterable[Sentence],
    trained: Trained,
    name: str,
    say: Callable[[str], None],
) -> Iterator[Sentence]:
    said = ended = False
    for sentence in sentences:
        if not ended and EOS in sentence.words:
            ended = True
            told = f"line {sentence.line:,} has {EOS}, and each line gets one"
            say(f"warning: {name}: {told}")
        if not said:
            for word in itertools.compress(sentence.words, sentence.unknown):
                normal = unicodedata.normalize("NFC", word)
                if normal != word and normal in trained.vocabulary.index:
                    said = True
                    say(
                        f"warning: {name}: line {sentence.line:,} has unknown words "
                        f"such as {word!r} that the model knows in the normal form NFC"
                    )
                    break
        yield sentence
