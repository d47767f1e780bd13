"""The quickstart's network trained jointly: what gradual learning is compared with.

Three layers from random initialisation, for as many epochs as the quickstart has in
all, with the settings of its last phase. An epoch of three layers costs more than one
of one layer, so equal epochs are more work here.

    python -m glrnn.train experiments/quickstart_joint.py
"""

from dataclasses import replace

from glrnn.config import Config

gradual = Config()
last = gradual.phases[-1]
config = replace(
    gradual,
    phases=(
        replace(
            last,
            main=replace(
                last.main, epochs=sum(phase.main.epochs for phase in gradual.phases)
            ),
            finetune=replace(
                last.finetune,
                epochs=sum(phase.finetune.epochs for phase in gradual.phases),
            ),
        ),
    ),
)
