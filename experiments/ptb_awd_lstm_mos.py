r"""AWD-LSTM with a mixture of softmaxes on Penn Treebank: 21,500,620 parameters.

Yang, Dai, Salakhutdinov and Cohen (2018), "Breaking the softmax bottleneck", with the
settings that their code gives for Penn Treebank; in Table 1 of Aharoni, Rattner and
Permuter (2017).

    python -m glrnn.train experiments/ptb_awd_lstm_mos.py --data DIR

The published perplexities, valid and test: 58.08 and 55.97 before finetuning, 56.54 and
54.44 after, 48.33 and 47.69 with dynamic evaluation:

    python -m glrnn.evaluate runs/ptb_awd_lstm_mos --phase 1 --stage main
    python -m glrnn.evaluate runs/ptb_awd_lstm_mos --dynamic \
        --dynamic.learning-rate 4.64e-5 --dynamic.decay-rate 4.41e-3 \
        --dynamic.epsilon 2.32e-5 --dynamic.statistics-batch-size 100

At most 2,000 epochs of about 1,143 updates, so for a GPU or TPU.
"""

from dataclasses import replace

from ptb_awd_lstm import config as awd_lstm

from glrnn.config import Layer, Stage

_phase = awd_lstm.phases[0]

config = replace(
    awd_lstm,
    embedding_size=280,
    layers=(
        Layer("lstm", hidden_size=960),
        Layer("lstm", hidden_size=960),
        Layer("lstm", hidden_size=620),
    ),
    head="mixture",
    num_softmaxes=15,
    phases=(
        replace(
            _phase,
            dropout=replace(_phase.dropout, hidden=(0.225, 0.225), latent=0.29),
            main=Stage(epochs=1000, learning_rate=20.0, max_norms=(0.25,)),
            finetune=Stage(epochs=1000, learning_rate=25.0, max_norms=(0.25,)),
        ),
    ),
    batch_size=12,
    seed=28,
)
