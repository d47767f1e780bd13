"""A trained model, loaded from the folder of its run."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax

from glrnn.config import Config
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import Ids, Vocabulary
from glrnn.errors import UsageError
from glrnn.ground.validation import shown
from glrnn.model import Model, language_model
from glrnn.storage import run_folder
from glrnn.storage.best_params import newest_params, phase_model
from glrnn.storage.numerics import numerics, require_same
from glrnn.storage.run_folder import StageId


class Trained(NamedTuple):
    """A trained model.

    Attributes:
        model: Its functions.
        params: Its parameters; of an ensemble, a tuple of those of each model.
        vocabulary: The words of its ids.
        config: The settings that it was trained with.
        stage: The stage that trained it: the number of its phase, and its name.
    """

    model: Model
    params: Any
    vocabulary: Vocabulary
    config: Config
    stage: StageId

    @property
    def eos(self) -> int:
        """The id of `<eos>`, after which every sentence begins.

        Raises:
            UsageError: The vocabulary has none.
        """
        if EOS not in self.vocabulary.index:
            raise UsageError(
                f"the vocabulary has no {EOS}, after which sentences begin; the texts "
                f"that the model was trained on had no lines"
            )
        return self.vocabulary.index[EOS]


def load(
    run: str | os.PathLike[str], phase: int | None = None, stage: str | None = None
) -> Trained:
    """Loads the best model of a run.

    Nothing in the folder is executed.

    Args:
        run: The run's folder.
        phase: The phase whose model to load, from 1; by default the deepest one that
            has a checkpoint.
        stage: The stage whose best model to load, `main` or `finetune`; by default the
            last one of the phase.

    Raises:
        UsageError: There is no such run, phase or stage, it has no checkpoint yet, it
            is damaged, or JAX's `enable_x64` is not what the run was trained with.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no run in nowhere: it has no config.json
    """
    return load_run(run_folder.read(Path(run)), phase, stage)


def load_run(
    run: run_folder.Run, phase: int | None = None, stage: str | None = None
) -> Trained:
    """As `load`, of a run that was read."""
    require_same(run.folder, run.origin.numerics, numerics(), ["enable_x64"])
    found, params = newest_params(run, phase, stage)
    model = phase_model(run, found.phase)
    return Trained(model, params, run.vocabulary, run.config, found)


def untrained(vocabulary: Vocabulary, config: Config, seed: int = 0) -> Trained:
    """A model with random parameters, of the last phase of a config: for comparison.

    Args:
        vocabulary: The words.
        config: The settings.
        seed: The same seed gives the same parameters.

    Example:
        >>> vocabulary = Vocabulary(("<eos>", "the", "cat"))
        >>> untrained(vocabulary, Config()).stage
        StageId(phase=3, name='main')
    """
    number = len(config.phases)
    num_layers = config.phases[-1].num_layers
    model = language_model(config, len(vocabulary), num_layers)
    params = model.init(jax.random.key(seed))
    return Trained(model, params, vocabulary, config, StageId(number, "main"))


def encode(trained: Trained, text: str) -> Ids:
    r"""The ids of a text's words.

    Words are separated by ASCII whitespace; unknown ones get the id of the vocabulary's
    symbol for them.

    Args:
        trained: The model.
        text: Some words.

    Returns:
        int32 `[N]`.

    Raises:
        UsageError: There are unknown words, and the vocabulary has no symbol for them;
            or the text is no string.

    Example:
        >>> vocabulary = Vocabulary(("<eos>", "the", "<unk>"))
        >>> trained = untrained(vocabulary, Config())
        >>> encode(trained, "the cat\n").tolist()
        [1, 2]
    """
    if not isinstance(text, str):
        raise UsageError(f"the text is {shown(text)}; give words in one string")
    # Anything that a word may hold, such as half of a surrogate pair.
    parts = text.encode("utf-8", "surrogatepass").split()
    words = [word.decode("utf-8", "surrogatepass") for word in parts]
    return trained.vocabulary.encode(words)[0]
