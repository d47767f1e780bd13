"""Makes the reference values of `tests/parity_test.py` with PyTorch.

    pip install torch==2.13.0 numpy
    python tests/golden/make.py

It writes one file a network, `<head>_<layers>.npz` beside this script, and prints how
far the same computation in single precision comes out from what it wrote. Each file
holds the settings as JSON and what `theirs.values` says, computed in double precision.
"""

import json
from pathlib import Path

import numpy as np
import torch
from theirs import (
    Sizes,
    depth,
    draw,
    evaluations,
    largest_differences,
    reference,
    values,
)

FOLDER = Path(__file__).parent
SIZES = Sizes(vocabulary=30, batch=3, updates=30, first=7, shortest=3, longest=9)

# Rates are the experiments': the mixtures have those of Penn Treebank, the softmaxes
# those of WikiText-2. So are the limits of the mixtures' first stage; but layers as
# small as these hardly ever exceed them: the others are lower, exceeded now and then.
COMMON = {
    "embedding_size": 6,
    "window_length": 6,
    "weight_decay": 1.2e-6,
    "activation_regularization": 2.0,
    "temporal_activation_regularization": 1.0,
}
MIXTURE = COMMON | {"head": "mixture", "hidden_size": 8, "num_softmaxes": 3}
SOFTMAX = COMMON | {"head": "softmax", "hidden_size": 6, "num_softmaxes": 1}
SOFTMAX["weight_decay"] = 1.2e-4  # a hundred times theirs: so few updates must show it


def dropout(inputs, hidden, output, latent=0.0):
    return {
        "embedding": 0.1,
        "input": inputs,
        "hidden": hidden,
        "output": output,
        "latent": latent,
        "recurrent": 0.5,
    }


def stage(learning_rate, *max_norms):
    return {"learning_rate": learning_rate, "max_norms": max_norms}


CASES = [
    MIXTURE
    | {
        "dropout": dropout(0.4, [], 0.4, 0.29),
        "main": stage(20.0, 0.05, 0.15, 0.15),
        "finetune": stage(25.0, 0.05, 0.02, 0.05),
    },
    MIXTURE
    | {
        "dropout": dropout(0.425, [0.24], 0.425, 0.325),
        "main": stage(20.0, 0.035, 0.12, 0.16, 0.16),
        "finetune": stage(25.0, 0.035, 0.002, 0.007, 0.055),
    },
    MIXTURE
    | {
        "dropout": dropout(0.45, [0.25, 0.23], 0.45, 0.35),
        "main": stage(20.0, 0.035, 0.13, 0.15, 0.16, 0.17),
        "finetune": stage(25.0, 0.035, 0.001, 0.002, 0.006, 0.06),
    },
    SOFTMAX
    | {
        "dropout": dropout(0.55, [], 0.35),
        "main": stage(15.0, 0.05, 0.04),
        "finetune": stage(20.0, 0.05, 0.04),
    },
    SOFTMAX
    | {
        "dropout": dropout(0.55, [0.24], 0.35),
        "main": stage(15.0, 0.035, 0.006, 0.018),
        "finetune": stage(15.0, 0.035, 0.006, 0.018),
    },
    SOFTMAX
    | {
        "dropout": dropout(0.55, [0.25, 0.23], 0.35),
        "main": stage(15.0, 0.035, 0.004, 0.01, 0.03),
        "finetune": stage(15.0, 0.035, 0.004, 0.01, 0.03),
    },
]


def main():
    for seed, settings in enumerate(CASES):
        drawn = draw(settings, SIZES, np.random.default_rng(seed))
        expected, clipped = reference(settings, drawn, torch.float64)
        single, _ = reference(settings, drawn, torch.float32)
        path = FOLDER / f"{settings['head']}_{depth(settings)}.npz"
        golden = values(drawn, expected)
        golden |= evaluations(settings, golden)
        np.savez_compressed(path, settings=json.dumps(settings), **golden)
        first, later = largest_differences(single, expected)
        shares = np.mean(clipped, axis=0)
        print(
            f"{path.name}: {path.stat().st_size} bytes; in single precision the first "
            f"window is off by {first:.1e} and the updates by {later:.1e}; clipped "
            f"in {', '.join(f'{share:.0%}' for share in shares)} of updates"
        )


if __name__ == "__main__":
    main()
