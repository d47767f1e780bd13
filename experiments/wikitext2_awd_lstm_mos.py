r"""AWD-LSTM with a mixture of softmaxes on WikiText-2: 34,909,528 parameters.

Yang, Dai, Salakhutdinov and Cohen (2018), "Breaking the softmax bottleneck", with the
settings that their code gives for WikiText-2; in Table 2 of Aharoni, Rattner and
Permuter (2017).

    python -m glrnn.train experiments/wikitext2_awd_lstm_mos.py --data DIR

The published perplexities, valid and test: 66.01 and 63.33 before finetuning, 63.88 and
61.45 after, 42.41 and 40.68 with dynamic evaluation:

    python -m glrnn.evaluate runs/wikitext2_awd_lstm_mos --phase 1 --stage main
    python -m glrnn.evaluate runs/wikitext2_awd_lstm_mos --dynamic \
        --dynamic.learning-rate 3.09e-5 --dynamic.decay-rate 1.18e-3 \
        --dynamic.epsilon 3.09e-5 --dynamic.statistics-batch-size 100

At most 2,000 epochs of about 2,055 updates, so for a GPU or TPU. A window has at most
110 tokens here and 90 in their code; hardly any drawn length reaches either.
"""

from dataclasses import replace

from ptb_awd_lstm_mos import config as penn_treebank

from glrnn.config import Layer

_phase = penn_treebank.phases[0]

config = replace(
    penn_treebank,
    embedding_size=300,
    layers=(
        Layer("lstm", hidden_size=1150),
        Layer("lstm", hidden_size=1150),
        Layer("lstm", hidden_size=650),
    ),
    phases=(
        replace(
            _phase,
            dropout=replace(_phase.dropout, input=0.55, hidden=(0.2, 0.2)),
            main=replace(_phase.main, learning_rate=15.0),
            finetune=replace(_phase.finetune, learning_rate=20.0),
        ),
    ),
    batch_size=15,
    small_batch_size=5,
    seed=1882,
)
