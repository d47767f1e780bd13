"""The reference model of Penn Treebank: three layers at once, a mixture of softmaxes.

AWD-LSTM-MoS (Yang et al. 2018) with a last layer as wide as the others, 26,390,840
parameters: Table 1 of Aharoni, Rattner and Permuter (2017), "Reference Model".

    python -m glrnn.train experiments/ptb_reference.py --data DIR

The paper's perplexities, valid and test: 57.41 and 55.58, after at most 1,000 epochs.
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Dropout
from glrnn.variants import reference

(_phase,) = reference(best).phases

config = replace(
    best,
    phases=(
        replace(
            _phase,
            # Of the recipe that it takes over, not of the best model's last phase.
            dropout=Dropout(
                embedding=0.1,
                input=0.4,
                hidden=(0.225, 0.225),
                output=0.4,
                latent=0.29,
                recurrent=0.5,
            ),
            main=replace(_phase.main, epochs=1000),
        ),
    ),
)
