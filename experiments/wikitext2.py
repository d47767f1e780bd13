"""The paper's best model of WikiText-2: three LSTM layers, a mixture of softmaxes.

Aharoni, Rattner and Permuter (2017), "Gradual learning of recurrent neural networks",
Table 2. The settings are those of the code they published. They differ from those of
Penn Treebank in more than the sizes, which the paper gives: in the batch size, the
learning rates and the dropout rates.

    python -m glrnn.train experiments/wikitext2.py --data DIR

DIR holds train.txt, valid.txt and test.txt. The paper's perplexities, valid and test,
without dynamic evaluation:

    phase  parameters   after main     after finetune
    1      20,440,328
    2      29,268,728
    3      38,097,128   63.59  61.27   62.79  60.54

With dynamic evaluation, 42.19 and 40.46, at rates that were not published:

    python -m glrnn.evaluate runs/wikitext2 --tune

At most 2,400 epochs of about 2,055 updates, 5e18 floating-point operations in all: six
days at a sustained 10 TFLOP/s, so for a GPU or TPU.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage

config = Config(
    embedding_size=300,
    layers=(Layer("lstm", hidden_size=1050),) * 3,
    head="mixture",
    num_softmaxes=15,
    phases=(
        Phase(
            num_layers=1,
            dropout=Dropout(
                embedding=0.1,
                input=0.55,
                output=0.35,
                latent=0.29,
                recurrent=0.5,
            ),
            main=Stage(400, learning_rate=15.0, max_norms=(0.05, 0.15, 0.15)),
            finetune=Stage(400, learning_rate=20.0, max_norms=(0.05, 0.15, 0.15)),
        ),
        Phase(
            num_layers=2,
            dropout=Dropout(
                embedding=0.1,
                input=0.55,
                hidden=(0.24,),
                output=0.35,
                latent=0.29,
                recurrent=0.5,
            ),
            main=Stage(400, learning_rate=15.0, max_norms=(0.035, 0.12, 0.16, 0.16)),
            finetune=Stage(
                400, learning_rate=15.0, max_norms=(0.035, 0.12, 0.16, 0.16)
            ),
        ),
        Phase(
            num_layers=3,
            dropout=Dropout(
                embedding=0.1,
                input=0.55,
                hidden=(0.25, 0.23),
                output=0.35,
                latent=0.29,
                recurrent=0.5,
            ),
            main=Stage(
                400, learning_rate=15.0, max_norms=(0.035, 0.13, 0.15, 0.16, 0.17)
            ),
            finetune=Stage(
                400, learning_rate=15.0, max_norms=(0.035, 0.13, 0.15, 0.16, 0.17)
            ),
        ),
    ),
    inherit_head=True,
    batch_size=15,
    window_length=70,
    activation_regularization=2.0,
    temporal_activation_regularization=1.0,
    weight_decay=1.2e-6,
    averaging=Averaging("non_monotonic", window=5),
    valid_batch_size=10,
    test_batch_size=1,
    seed=28,
)
