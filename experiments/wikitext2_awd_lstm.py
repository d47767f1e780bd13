"""AWD-LSTM on WikiText-2: 33,556,078 parameters.

Merity, Keskar and Socher (2018), "Regularizing and optimizing LSTM language models",
with the settings that their code gives for WikiText-2; in Table 2 of Aharoni, Rattner
and Permuter (2017).

    python -m glrnn.train experiments/wikitext2_awd_lstm.py --data DIR

The published perplexities, valid and test: 69.1 and 66.0 before finetuning, 68.6 and
65.8 after; 46.4 and 44.3 with dynamic evaluation (Krause et al. 2018):

    python -m glrnn.evaluate runs/wikitext2_awd_lstm --phase 1 --stage main
    python -m glrnn.evaluate runs/wikitext2_awd_lstm --tune

At most 1,500 epochs of about 385 updates, so for a GPU or TPU.
"""

from dataclasses import replace

from ptb_awd_lstm import config as penn_treebank

_phase = penn_treebank.phases[0]

config = replace(
    penn_treebank,
    phases=(
        replace(
            _phase,
            dropout=replace(_phase.dropout, input=0.65, hidden=(0.2, 0.2)),
            main=replace(_phase.main, epochs=750),
            finetune=replace(_phase.finetune, epochs=750),
        ),
    ),
    batch_size=80,
    seed=1882,
)
