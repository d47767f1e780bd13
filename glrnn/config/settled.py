"""What a config leaves to the corpus."""

from dataclasses import replace

import numpy as np

from glrnn.config.config import Config
from glrnn.data.corpus import Corpus
from glrnn.heads.cutoffs import check_order, choose_cutoffs


def settled(config: Config, corpus: Corpus) -> Config:
    """The settings with which a corpus is trained on, and which its run stores.

    Where none are given, the cut-offs of an adaptive head are those of the lowest
    expected cost.

    Args:
        config: The settings.
        corpus: The corpus, loaded in the config's order of words.

    Raises:
        UsageError: The head needs another order of the words, or more words.

    Example:
        >>> from glrnn.config import Phase
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> ids = np.repeat(np.arange(100, dtype=np.int32), 100 - np.arange(100))
        >>> words = Vocabulary(tuple(map(str, range(100))))
        >>> corpus = Corpus("mine", words, ids, ids, ids, {})
        >>> config = Config(
        ...     head="adaptive", layers=Config().layers[:1], phases=(Phase(),)
        ... )
        >>> settled(config, corpus).cutoffs
        (60,)
        >>> settled(Config(), corpus) == Config()
        True
    """
    if not config.has_cutoffs:
        return config
    counts = np.bincount(corpus.train, minlength=len(corpus.vocabulary))
    check_order(counts)
    if config.cutoffs:
        return config
    num_tokens = config.window_length * config.batch_size // config.num_microbatches
    return replace(config, cutoffs=choose_cutoffs(counts, num_tokens))
