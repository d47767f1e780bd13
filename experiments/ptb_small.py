"""Gradual learning of Penn Treebank at a size for two CPU cores.

Three LSTM layers of 200 units over a tied softmax, the method of the paper with light
dropout and ten epochs in all.

    python -m glrnn.train experiments/ptb_small.py --data DIR

DIR holds train.txt, valid.txt and test.txt. What it reached is in README.md beside this
file; the classic two-layer 200-unit LSTM without regularisation has a test perplexity
of 114.5 (Zaremba et al. 2014).
"""

from glrnn.config import Config, Dropout, Layer, Phase, Stage


def _phase(num_layers: int, epochs: int, finetune_epochs: int) -> Phase:
    max_norms = (0.2, *(0.25,) * num_layers)
    return Phase(
        num_layers=num_layers,
        dropout=Dropout(
            embedding=0.05,
            input=0.1,
            hidden=(0.1,) * (num_layers - 1),
            output=0.2,
            recurrent=0.1,
        ),
        main=Stage(epochs, learning_rate=30.0, max_norms=max_norms),
        finetune=Stage(finetune_epochs, learning_rate=30.0, max_norms=max_norms),
    )


config = Config(
    embedding_size=200,
    layers=(Layer(hidden_size=200),) * 3,
    phases=(
        _phase(num_layers=1, epochs=3, finetune_epochs=1),
        _phase(num_layers=2, epochs=1, finetune_epochs=1),
        _phase(num_layers=3, epochs=2, finetune_epochs=2),
    ),
    batch_size=20,
    window_length=35,
)
