r"""The method at a size that two CPU cores train in minutes, for comparisons.

`ptb_small.py` with layers of 64 units. Averaging begins as early as its trigger allows,
since there are few epochs.

    python -m glrnn.train experiments/ptb_smaller.py --data DIR

To train it and its variants, each with the best of three learning rates:

    python -m glrnn.study experiments/ptb_smaller.py --data DIR \
        --variants as_it_is without_lwgc without_gl reference \
        --learning-rates 10 20 30

The README.md beside this file has the results.
"""

from dataclasses import replace

from ptb_small import config as larger

from glrnn.config import Averaging
from glrnn.config.variants import resized

config = replace(
    resized(larger, embedding_size=64, hidden_size=64, epochs=2),
    averaging=Averaging(window=1),
)
