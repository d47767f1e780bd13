"""AWD-LSTM on Penn Treebank: 24,221,600 parameters.

Merity, Keskar and Socher (2018), "Regularizing and optimizing LSTM language models",
with the settings that their code gives for Penn Treebank; in Table 1 of Aharoni,
Rattner and Permuter (2017).

    python -m glrnn.train experiments/ptb_awd_lstm.py --data DIR

The published perplexities, valid and test: 60.7 and 58.8 before finetuning, 60.0 and
57.3 after; 51.6 and 51.1 with dynamic evaluation (Krause et al. 2018):

    python -m glrnn.evaluate runs/ptb_awd_lstm --phase 1 --stage main
    python -m glrnn.evaluate runs/ptb_awd_lstm --tune

At most 1,000 epochs of about 686 updates, so for a GPU or TPU.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage

_stage = Stage(epochs=500, learning_rate=30.0, max_norms=(0.25,))

config = Config(
    embedding_size=400,
    layers=(
        Layer("lstm", hidden_size=1150),
        Layer("lstm", hidden_size=1150),
        Layer("lstm", hidden_size=400),
    ),
    head="softmax",
    phases=(
        Phase(
            num_layers=3,
            dropout=Dropout(
                embedding=0.1,
                input=0.4,
                hidden=(0.25, 0.25),
                output=0.4,
                recurrent=0.5,
            ),
            main=_stage,
            finetune=_stage,
        ),
    ),
    batch_size=20,
    window_length=70,
    activation_regularization=2.0,
    temporal_activation_regularization=1.0,
    weight_decay=1.2e-6,
    averaging=Averaging("non_monotonic", window=5),
    valid_batch_size=10,
    test_batch_size=1,
    seed=141,
)
