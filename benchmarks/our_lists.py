"""This project's sides of a comparison that rescores a list of candidates."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks.candidates import candidates
from benchmarks.presets import COMPARED, ListSide, Preset, make_config
from glrnn import data
from glrnn.console.compilation import return_memory
from glrnn.data.vocabulary import Ids, Vocabulary
from glrnn.errors import UsageError
from glrnn.scoring.prefixes import BLOCK, levels
from glrnn.scoring.sentences import Sentence, read_sentences, score_sentences
from glrnn.scoring.tokens import log_likelihoods
from glrnn.scoring.trained import Trained, untrained

# One call a line takes every so many lines in a turn.
EVERY_LINE = 100
# What random parameters are multiplied by: nearly uniform distributions hide mistakes.
SPREAD = 3.0


def prepare(folder: Path, source: Path, preset: Preset, utterances: int) -> dict:
    """Writes the list, the vocabulary, and the weights by PyTorch's names.

    Args:
        folder: Where to.
        source: The folder of the corpus.
        preset: The size of the network.
        utterances: The number of sentences.

    Returns:
        The numbers of lines, of tokens, and of distinct prefixes.

    Raises:
        UsageError: The corpus has another number of words than the preset.
    """
    words = data.load(source).vocabulary.words
    if len(words) != preset.vocabulary:
        raise UsageError(
            f"{source} has {len(words):,} words and the preset {preset.vocabulary:,}; "
            f"choose another preset"
        )
    text = (source / "valid.txt").read_text()
    lines = [
        f"{key} {' '.join(words)}\n" for key, words in candidates(text, utterances)
    ]
    (folder / "list.txt").write_text("".join(lines))
    (folder / "words.txt").write_text("\n".join(words))
    trained, sentences = _given(folder, preset)
    ids = [sentence.ids for sentence in sentences]
    np.savez(
        folder / "list.npz",
        ids=np.concatenate(ids),
        lengths=[len(each) for each in ids],
        **_by_name(trained),
    )
    longest_first = sorted(ids, key=len, reverse=True)
    return {
        "lines": len(ids),
        "tokens": sum(map(len, ids)),
        "distinct_prefixes": sum(len(each.tokens) for each in levels(longest_first)),
    }


def _given(folder: Path, preset: Preset) -> tuple[Trained, list[Sentence]]:
    vocabulary = Vocabulary(tuple((folder / "words.txt").read_text().split("\n")))
    trained = untrained(vocabulary, make_config(preset))
    params = jax.tree.map(lambda leaf: SPREAD * leaf, trained.params)
    trained = trained._replace(params=params)
    with open(folder / "list.txt", "rb") as stream:
        lines = read_sentences(stream, vocabulary, "the list", trained.eos, keyed=True)
        return trained, list(lines)


def _by_name(trained: Trained) -> dict[str, np.ndarray]:
    embedding, layers, head = (
        trained.params.embedding,
        trained.params.layers,
        trained.params.head,
    )
    named = {
        "table": embedding.table,
        "bias": embedding.bias,
        "prior.weight": head.prior.T,
        "latent.weight": head.latent.T,
        "latent.bias": head.latent_bias,
    }
    for number, layer in enumerate(layers):
        named |= {
            f"layers.{number}.weight_ih_l0": layer.input.T,
            f"layers.{number}.weight_hh_l0": layer.recurrent.T,
            f"layers.{number}.bias_ih_l0": layer.input_bias,
            f"layers.{number}.bias_hh_l0": layer.recurrent_bias,
        }
    return {name: np.asarray(leaf) for name, leaf in named.items()}


def by_prefix(folder: Path, preset: Preset) -> ListSide:
    """What `python -m glrnn.score --nbest` does; a turn is a block of lines."""
    return_memory()
    trained, sentences = _given(folder, preset)
    num_blocks = -(-len(sentences) // BLOCK)

    def score(turn: int) -> int:
        start = turn % num_blocks * BLOCK
        found = score_sentences(trained, sentences[start : start + BLOCK])
        return sum(len(each.log_likelihoods) for each in found)

    def compare() -> list[np.ndarray]:
        found = score_sentences(trained, sentences[::COMPARED])
        return [each.log_likelihoods for each in found]

    return score, compare


def one_by_one(folder: Path, preset: Preset) -> ListSide:
    """One call of `glrnn.log_likelihoods` for each line."""
    return_memory()
    trained, sentences = _given(folder, preset)

    def found(every: int, start: int) -> list[np.ndarray]:
        chosen: list[Ids] = [each.ids for each in sentences[start::every]]
        return [log_likelihoods(trained, ids)[0] for ids in chosen]

    def score(turn: int) -> int:
        return sum(map(len, found(EVERY_LINE, turn)))

    return score, partial(found, COMPARED, 0)
