"""The method on Penn Treebank at a size for two CPU cores."""

from glrnn.config import Config, Dropout, Layer, Phase, Stage


def _phase(num_layers: int, main: int, finetune: int) -> Phase:
    norms = (0.1, *(0.2,) * num_layers)
    return Phase(
        num_layers=num_layers,
        dropout=Dropout(
            embedding=0.05,
            input=0.2,
            hidden=(0.1,) * (num_layers - 1),
            output=0.2,
            recurrent=0.2,
        ),
        main=Stage(epochs=main, learning_rate=20.0, max_norms=norms),
        finetune=Stage(epochs=finetune, learning_rate=20.0, max_norms=norms),
    )


config = Config(
    embedding_size=200,
    layers=(Layer(hidden_size=200),) * 3,
    phases=(_phase(1, 6, 2), _phase(2, 4, 2), _phase(3, 5, 4)),
    batch_size=16,
    window_length=35,
)
