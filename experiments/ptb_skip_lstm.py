"""Skip-connection LSTM on Penn Treebank: four layers, 23,978,896 parameters.

Melis, Dyer and Blunsom (2018), "On the state of the art of evaluation in neural
language models", with the tuned settings that their code came with; in Table 1 of
Aharoni, Rattner and Permuter (2017), which calls it the 2-layer model, though these
figures are those of four layers.

    python -m glrnn.train experiments/ptb_skip_lstm.py --data DIR

The published perplexities, valid and test: 60.9 and 58.3. At most 1,000 epochs of 100
updates, so for a GPU or TPU. The differences from their code: there, each sequence of a
batch goes through the whole training set, from a new random place in every pass; here,
the sequences are equal parts of it, and start from a state of zeros. Their learning
rate may drop more than once. Their training also ends when the validation loss is not
expected to become good enough. Their vocabulary has one word more.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.optim.learning_rate import Schedule

config = Config(
    embedding_size=723,
    embedding_bound=None,
    layers=(Layer("capped", hidden_size=723),) * 4,
    head="softmax",
    sum_outputs=True,
    phases=(
        Phase(
            num_layers=4,
            dropout=Dropout(
                input=0.633642,
                hidden=(0.309127,) * 3,
                output=0.700857,
                state=0.642752,
                carry=0.01,
            ),
            main=Stage(
                epochs=1000,
                learning_rate=0.003960247,
                max_norms=(10.0,),
                patience=31,
                schedule=Schedule(drop=0.1, drop_patience=27, drop_latest=900),
            ),
        ),
    ),
    batch_size=64,
    window_length=35,
    fixed_windows=True,
    updates_per_epoch=100,
    masks_per_step=True,
    optimizer="rms",
    sum_over_time=True,
    activation_regularization=0.0,
    temporal_activation_regularization=0.0,
    weight_decay=0.0,
    l2_penalty=7.44869e-5,
    averaging=Averaging("never"),
    valid_batch_size=33,
    test_batch_size=1,
    seed=1,
)
