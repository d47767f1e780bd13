"""Gradual learning of Penn Treebank at a size for two CPU cores.

Three LSTM layers of 200 units over a tied softmax, the paper's method with light
dropout: the quickstart's phases, for ten epochs in all.

    python -m glrnn.train experiments/ptb_small.py --data DIR

DIR holds train.txt, valid.txt and test.txt. The README.md beside this file has the
perplexities it reached; the classic two-layer 200-unit LSTM without regularisation has
a test perplexity of 114.5 (Zaremba et al. 2014).
"""

from dataclasses import replace

from glrnn.config import Config, Layer, Phase

quickstart = Config()


def _with_epochs(phase: Phase, main: int, finetune: int) -> Phase:
    return replace(
        phase,
        main=replace(phase.main, epochs=main),
        finetune=replace(phase.finetune, epochs=finetune),
    )


config = replace(
    quickstart,
    embedding_size=200,
    layers=(Layer(hidden_size=200),) * 3,
    phases=tuple(
        _with_epochs(phase, *epochs)
        for phase, epochs in zip(
            quickstart.phases, [(3, 1), (1, 1), (2, 2)], strict=True
        )
    ),
    batch_size=20,
)
