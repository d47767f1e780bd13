"""An LSTM of 1,024 units with an adaptive softmax on WikiText-103.

Grave, Joulin and Usunier (2017), "Improving neural language models with a continuous
cache", whose baseline without a cache this is, as far as we remember the paper: one
layer, dropout of 0.25, windows of 20 tokens. 283,172,314 parameters.

    python -m glrnn.train experiments/wikitext103.py --data wikitext-103

The published perplexity, test: 48.7; with their cache of 2,000 words 40.8. The
differences: the output is tied to the input embedding here. Their rule is Adagrad, with
a learning rate that is halved from the fifth epoch on (`train_big_lstm.lua` of
github.com/facebookresearch/adaptive-softmax); here it is rms, at a rate that was not
tuned. The cut-offs are those of Merity, Keskar and Socher (2018), "An analysis of
neural language modeling at multiple scales", in their code.

Ten epochs of some 40,000 updates of 2,560 tokens, so for a GPU or TPU.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.optim.learning_rate import Schedule

config = Config(
    embedding_size=1024,
    embedding_bound=0.05,
    layers=(Layer("lstm", hidden_size=1024),),
    head="adaptive",
    cutoffs=(2800, 20000, 76000),
    phases=(
        Phase(
            num_layers=1,
            dropout=Dropout(input=0.25, output=0.25),
            main=Stage(
                epochs=10,
                learning_rate=0.001,
                max_norms=(0.1,),
                schedule=Schedule(decay=0.5, constant_epochs=4),
            ),
        ),
    ),
    batch_size=128,
    window_length=20,
    fixed_windows=True,
    masks_per_step=True,
    optimizer="rms",
    activation_regularization=0.0,
    temporal_activation_regularization=0.0,
    weight_decay=0.0,
    averaging=Averaging("never"),
    vocabulary_order="frequency",
)
