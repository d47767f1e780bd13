"""An LSTM of 2,048 units with an adaptive softmax on the One Billion Word Benchmark.

Grave, Joulin, Cissé, Grangier and Jégou (2017), "Efficient softmax approximation for
GPUs": one layer, and words of 512 features as in Jozefowicz, Vinyals, Schuster, Shazeer
and Wu (2016), "Exploring the limits of language modeling". 429,174,658 parameters with
793,471 words.

    python -m glrnn.train experiments/lm1b.py --data lm1b

The published perplexities, test, as far as we remember the papers: 43.9 (Grave et al.),
39.8 with two layers, 43.7 (Jozefowicz et al., LSTM-2048-512, full softmax). The
differences: the output is tied to the input embedding here, and outputs are projected
to its size. Their rule is Adagrad; here it is rms, at a rate that was not tuned. The
cut-offs are those of Merity, Keskar and Socher (2018), "An analysis of neural language
modeling at multiple scales", in their code.

Fifty epochs of 30,000 updates of 2,560 tokens, about five passes, so for a GPU or TPU.
"""

from dataclasses import replace

from wikitext103 import config as wikitext103

from glrnn.config import Dropout, Layer
from glrnn.optim.learning_rate import Schedule

_phase = wikitext103.phases[0]

config = replace(
    wikitext103,
    embedding_size=512,
    layers=(Layer("lstm", hidden_size=2048),),
    cutoffs=(4200, 35000, 180000),
    phases=(
        replace(
            _phase,
            dropout=Dropout(input=0.1, output=0.1),
            main=replace(
                _phase.main,
                epochs=50,
                learning_rate=0.0005,
                max_norms=(1.0,),
                schedule=Schedule(decay=0.93, constant_epochs=10),
            ),
        ),
    ),
    updates_per_epoch=30_000,
)
