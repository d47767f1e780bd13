"""Variational recurrent highway network on Penn Treebank: 23,482,400 parameters.

Zilly, Srivastava, Koutník and Schmidhuber (2017), "Recurrent highway networks", depth
10, with weight tying and the settings of their code; in Table 1 of Aharoni, Rattner and
Permuter (2017).

    python -m glrnn.train experiments/ptb_rhn.py --data DIR

The published perplexities, valid and test: 67.9 and 65.4. 500 epochs of 1,328 updates,
so for a GPU or TPU. Two things differ from their code: the output bias is initialised
as zero, and theirs like all other parameters; and the short last window of an epoch is
trained on, which their code leaves out.
"""

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.optim.learning_rate import Schedule

config = Config(
    embedding_size=830,
    embedding_bound=0.04,
    layers=(Layer("rhn", hidden_size=830, depth=10),),
    head="softmax",
    phases=(
        Phase(
            num_layers=1,
            dropout=Dropout(embedding=0.25, input=0.75, output=0.75, state=0.25),
            main=Stage(
                epochs=500,
                learning_rate=0.2,
                max_norms=(10.0,),
                # 20 epochs at the full learning rate; the 21st has 1/1.02 of it.
                schedule=Schedule(decay=1 / 1.02, constant_epochs=19),
            ),
        ),
    ),
    batch_size=20,
    window_length=35,
    fixed_windows=True,
    word_masks_per_sequence=True,
    sum_over_time=True,
    activation_regularization=0.0,
    temporal_activation_regularization=0.0,
    weight_decay=0.0,
    l2_penalty=1e-7,
    averaging=Averaging("never"),
    valid_batch_size=20,
    test_batch_size=1,
    seed=28,
)
