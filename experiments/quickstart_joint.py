"""The quickstart's network trained jointly, to compare with gradual learning.

All three layers are trained from random initialisation, for as many epochs as the
quickstart has in all, with the settings of its last phase. An epoch of three layers
takes longer than an epoch of one, so the same number of epochs is more work here.

    python -m glrnn.train experiments/quickstart_joint.py
"""

from glrnn.config import Config
from glrnn.config.variants import without_gl

config = without_gl(Config())
