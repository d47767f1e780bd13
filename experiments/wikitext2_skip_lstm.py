"""Skip-connection LSTM on WikiText-2: two layers, 23,981,979 parameters.

Melis, Dyer and Blunsom (2018), "On the state of the art of evaluation in neural
language models", with the tuned settings that their code came with; in Table 2 of
Aharoni, Rattner and Permuter (2017).

    python -m glrnn.train experiments/wikitext2_skip_lstm.py --data DIR

The published perplexities, valid and test: 69.1 and 65.9. At most 1,000 epochs of 200
updates, so for a GPU or TPU. `ptb_skip_lstm.py` lists the differences from their code.
"""

from dataclasses import replace

from ptb_skip_lstm import config as penn_treebank

from glrnn.config import Dropout, Layer, Phase

config = replace(
    penn_treebank,
    embedding_size=149,
    layers=(Layer("capped", hidden_size=1227),) * 2,
    head="projected",
    phases=(
        Phase(
            num_layers=2,
            dropout=Dropout(
                input=0.484244,
                hidden=(0.092024,),
                output=0.391493,
                latent=0.391493,
                state=0.453889,
                carry=0.01,
            ),
            main=replace(penn_treebank.phases[0].main, learning_rate=0.002460414),
        ),
    ),
    updates_per_epoch=200,
    l2_penalty=3.77566e-5,
    valid_batch_size=37,
)
