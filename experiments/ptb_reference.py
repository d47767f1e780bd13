"""The reference model of Penn Treebank: three layers at once, a mixture of softmaxes.

AWD-LSTM-MoS (Yang et al. 2018) with a last layer as wide as the others, 26,390,840
parameters: Table 1 of Aharoni, Rattner and Permuter (2017), "Reference Model".

    python -m glrnn.train experiments/ptb_reference.py --data DIR

The paper's perplexities, valid and test: 57.41 and 55.58, after at most 1,000 epochs.
"""

from dataclasses import replace

from ptb_awd_lstm_mos import config as awd_lstm_mos

from glrnn.config import Layer, Stage

_phase = awd_lstm_mos.phases[0]

config = replace(
    awd_lstm_mos,
    layers=(Layer("lstm", hidden_size=960),) * 3,
    phases=(replace(_phase, finetune=Stage()),),
)
