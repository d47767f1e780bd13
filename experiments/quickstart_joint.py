"""The quickstart's network trained jointly: what gradual learning is compared with.

All three layers from random initialisation, for as many epochs as the quickstart has in
all, with the settings of its last phase. An epoch of three layers costs more than one
of one layer, so equal epochs are more work here.

    python -m glrnn.train experiments/quickstart_joint.py
"""

from glrnn.config import Config
from glrnn.config.variants import without_gl

config = without_gl(Config())
