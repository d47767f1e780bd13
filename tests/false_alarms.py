"""How often a device that is right is taken for a wrong one: never, it should be.

Small networks of every cell and head are compared as `device_check` does it, the
program of a GPU with that of a CPU, from many seeds: other parameters, tokens, dropout
masks and window lengths. Both run on this CPU. It multiplies in float32 whatever is
asked for, so the operands of a GPU's products are rounded before they are multiplied,
to as many bits as the precision leaves them.

    python tests/false_alarms.py --seeds 50
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from jax import lax
from jax.interpreters import mlir

from glrnn import data
from glrnn.cells import CELLS, cell
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.data.vocabulary import Vocabulary
from glrnn.heads import HEADS, blocks
from glrnn.storage.run_folder import Origin, Run, StageId
from glrnn.training import device_check
from glrnn.training.agreement import TOLERANCES, Row
from glrnn.training.context import Context
from glrnn.training.execution import Execution

VOCABULARY = Vocabulary(tuple(map(str, range(60))))
# Bits of a significand after the first, by the name that a product has in a program.
BITS = {"BF16_BF16_F32": 7, "HIGH": 10}


def round_operands() -> None:
    """Has products on this CPU round their operands as their precision says."""
    product = lax.dot_general_p
    exact = mlir._platform_specific_lowerings["cpu"].get(product)
    exact = exact or mlir._lowerings[product]

    def lower(context: Any, x: Any, y: Any, *, precision: Any, **rest: Any) -> Any:
        names = precision if isinstance(precision, tuple) else (precision,)
        bits = BITS.get(getattr(names[0], "name", ""))
        if bits is None:
            rule = getattr(exact, "rule", exact)
            return rule(context, x, y, precision=precision, **rest)

        def rounded(x: jax.Array, y: jax.Array) -> jax.Array:
            x, y = (lax.reduce_precision(each, 8, bits) for each in (x, y))
            return product.bind(x, y, precision=None, **rest)

        return mlir.lower_fun(rounded, multiple_results=False)(context, x, y)

    mlir.register_lowering(product, lower, platform="cpu")


def experiment(kind: str, distribution: str) -> Config:
    """Two layers of one cell, one head, noise everywhere; one padded length."""
    dropout = Dropout(
        embedding=0.1,
        input=0.2,
        hidden=(0.2,),
        output=0.2,
        latent=0.0 if distribution == "softmax" else 0.2,
        recurrent=0.2,
    )
    stage = Stage(1, max_norms=(0.1,) * (3 + (distribution != "softmax")))
    return Config(
        embedding_size=16,
        layers=(Layer(kind, 16), Layer(kind, 16)),
        head=distribution,
        num_softmaxes=3 if distribution == "mixture" else 1,
        cutoffs=(10, 30) if distribution == "adaptive" else (),
        phases=(Phase(2, dropout, main=stage),),
        batch_size=8,
        window_length=20,
    )


def rows_of(config: Config, precision: str, seed: int) -> list[Row]:
    """What is compared, from one seed."""
    tokens = np.random.default_rng(seed).integers(60, size=17 * 8, dtype=np.int32)
    corpus = data.Corpus("random", VOCABULARY, tokens, tokens, tokens, unknown={})
    config = replace(config, seed=seed)
    run = Run(Path(), config, VOCABULARY, Origin("random", ""))
    execution = Execution(precision=precision)
    # Nothing is shown or written of it.
    context = Context(run, corpus, Any, Any, Any, execution, Any)
    return device_check.compare(context, StageId(1, "main"))


def alarms(cells: Sequence[str], seeds: int) -> Iterator[dict[str, Any]]:
    """One row for each cell, head and precision."""
    for kind in cells:
        for distribution in HEADS:
            config = experiment(kind, distribution)
            for precision in TOLERANCES:
                found = [rows_of(config, precision, seed) for seed in range(seeds)]
                worst = max(
                    (row for rows in found for row in rows), key=lambda row: row.excess
                )
                wrong = sum(any(row.excess > 1 for row in rows) for rows in found)
                yield {
                    "cell": kind,
                    "head": distribution,
                    "precision": precision,
                    "updates": len(found),
                    "alarms": wrong,
                    "excess": worst.excess,
                    "worst": worst.name,
                }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=tuple(CELLS))
    arguments = parser.parse_args()
    round_operands()
    # The program of a GPU, but for how far it is unrolled: ten steps compile slowly.
    jax.default_backend = lambda: "gpu"
    cell.UNROLL["gpu"] = 2
    # The CPU's takes several parts of so small a vocabulary, the GPU's one.
    blocks.BLOCKS["cpu"] = blocks.Block(logits=1000, table=200)
    started = time.perf_counter()
    updates, wrong, most = 0, 0, 0.0
    for row in alarms(arguments.cells, arguments.seeds):
        print(
            f"{row['cell']:10}{row['head']:10}{row['precision']:14}"
            f"{row['alarms']} of {row['updates']}, at most {row['excess']:.3f} of the "
            f"tolerance ({row['worst']})",
            flush=True,
        )
        updates, wrong = updates + row["updates"], wrong + row["alarms"]
        most = max(most, row["excess"])
    seconds = time.perf_counter() - started
    print(f"{wrong} alarms in {updates} updates, at most {most:.3f}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
