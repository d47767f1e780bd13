"""The paper's best model of Penn Treebank: three LSTM layers, a mixture of softmaxes.

Aharoni, Rattner and Permuter (2017), "Gradual learning of recurrent neural networks",
Table 1, with the settings of the code they published.

    python -m glrnn.train experiments/ptb.py --data DIR

DIR holds train.txt, valid.txt and test.txt. The paper's perplexities, valid and test,
without dynamic evaluation:

    phase  parameters   after main     after finetune
    1      11,629,880
    2      19,010,360                  55.18  53.54
    3      26,390,840   54.57  52.95   54.24  52.57

With dynamic evaluation, 46.64 and 46.34; its rates are the defaults:

    python -m glrnn.evaluate runs/ptb --dynamic

At most 2,400 epochs of about 1,143 updates, 0.8e18 floating-point operations in all:
a day at a sustained 10 TFLOP/s, so for a GPU or TPU; `ptb_small.py` is for a CPU.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage

config = Config(
    embedding_size=280,
    layers=(Layer("lstm", hidden_size=960),) * 3,
    head="mixture",
    num_softmaxes=15,
    phases=(
        Phase(
            num_layers=1,
            dropout=Dropout(
                embedding=0.1,
                input=0.4,
                output=0.4,
                latent=0.29,
                recurrent=0.5,
            ),
            main=Stage(400, learning_rate=20.0, max_norms=(0.05, 0.15, 0.15)),
            finetune=Stage(400, learning_rate=25.0, max_norms=(0.05, 0.15, 0.15)),
        ),
        Phase(
            num_layers=2,
            dropout=Dropout(
                embedding=0.1,
                input=0.425,
                hidden=(0.24,),
                output=0.425,
                latent=0.325,
                recurrent=0.5,
            ),
            main=Stage(400, learning_rate=20.0, max_norms=(0.035, 0.12, 0.16, 0.16)),
            finetune=Stage(
                400, learning_rate=25.0, max_norms=(0.035, 0.12, 0.16, 0.16)
            ),
        ),
        Phase(
            num_layers=3,
            dropout=Dropout(
                embedding=0.1,
                input=0.45,
                hidden=(0.25, 0.23),
                output=0.45,
                latent=0.35,
                recurrent=0.5,
            ),
            main=Stage(
                400, learning_rate=20.0, max_norms=(0.035, 0.13, 0.15, 0.16, 0.17)
            ),
            finetune=Stage(
                400, learning_rate=25.0, max_norms=(0.035, 0.14, 0.15, 0.17, 0.17)
            ),
        ),
    ),
    inherit_head=True,
    batch_size=12,
    window_length=70,
    activation_regularization=2.0,
    temporal_activation_regularization=1.0,
    weight_decay=1.2e-6,
    averaging=Averaging("non_monotonic", window=5),
    valid_batch_size=10,
    test_batch_size=1,
    seed=28,
)
