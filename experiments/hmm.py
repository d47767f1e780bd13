"""Gradual learning of a source whose entropy rate is known.

Three LSTM layers of 32 units on `hmm`, the words of a hidden Markov model: 1.365 nats a
word, the entropy rate, is the lowest loss there is (perplexity 3.915), and 1.734 what
the last word alone allows. Expected: at most 1.428, nine tenths of the way from the
entropy of the words, 1.999, to the entropy rate. It takes two minutes on two CPU cores.

    python -m glrnn.train experiments/hmm.py --data hmm
"""

from dataclasses import replace

from glrnn.config import Config, Dropout, Layer, Phase

quickstart = Config()
config = replace(
    quickstart,
    embedding_size=32,
    layers=(Layer(hidden_size=32),) * 3,
    phases=tuple(
        Phase(
            number,
            Dropout(hidden=(0.0,) * (number - 1)),
            replace(phase.main, epochs=12, learning_rate=5.0),
            replace(phase.finetune, epochs=4, learning_rate=5.0),
        )
        for number, phase in enumerate(quickstart.phases, 1)
    ),
)
