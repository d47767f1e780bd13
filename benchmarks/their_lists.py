"""PyTorch's side of a comparison that rescores a list of candidates.

Lines of like length lie side by side, all lines sorted by length, so that there is next
to no padding. The output distribution is computed for true tokens alone, and of it no
more than is needed: the logits, their log-sum-exp, and the target's logit, where
`theirs.LanguageModel` would mix all probabilities. The size of a batch, and whether
the output distribution is compiled, are the fastest of those tried.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.presets import COMPARED, ListSide, Preset
from benchmarks.theirs import LanguageModel

# A turn takes every so many batches.
EVERY_BATCH = 10
# The sizes of batches that are tried, and the lines of a trial, of the usual length.
SIZES = (8, 16, 32, 64)
TRIED = 64


class Batch:
    """Lines side by side, padded to the longest.

    Attributes:
        lines: Their numbers.
        inputs: Their tokens after `<eos>`, without the last, `[T, B]`.
        targets: Their tokens, `[N]`, of the first time step first.
        live: Where there are tokens, `[T, B]`.
    """

    def __init__(self, lines: list[int], ids: list[np.ndarray]):
        self.lines = lines
        padded = nn.utils.rnn.pad_sequence(
            [torch.tensor(ids[i]).long() for i in lines], padding_value=-1
        )
        self.live = padded >= 0
        self.targets = padded[self.live]
        # A line ends in <eos>, and begins after it.
        eos = int(ids[0][-1])
        self.inputs = functional.pad(padded[:-1], (0, 0, 1, 0), value=eos).clamp(min=0)


def batched(
    folder: Path, preset: Preset, forms: Sequence[str] = ("eager", "compiled")
) -> tuple[ListSide, str]:
    """PyTorch's side, and which form of it was the fastest."""
    given = np.load(folder / "list.npz")
    ids = np.split(given["ids"], np.cumsum(given["lengths"])[:-1])
    model = LanguageModel(preset).eval()
    weights = {name: torch.tensor(given[name]) for name in model.state_dict()}
    model.load_state_dict(weights)
    size, head, form = _fastest(model, ids, forms)
    batches = list(_batches(range(len(ids)), ids, size))

    def score(turn: int) -> int:
        chosen = batches[turn % EVERY_BATCH :: EVERY_BATCH]
        return sum(len(_score(model, head, each)) for each in chosen)

    def compare() -> list[np.ndarray]:
        found = {}
        for batch in _batches(range(0, len(ids), COMPARED), ids, size):
            whole = torch.full(batch.live.shape, torch.nan)
            whole[batch.live] = _score(model, head, batch)
            for line, column in zip(batch.lines, whole.T, strict=True):
                found[line] = column[: len(ids[line])].numpy()
        return [found[line] for line in sorted(found)]

    return (score, compare), form


def _batches(lines, ids, size):
    order = sorted(lines, key=lambda i: -len(ids[i]))
    for start in range(0, len(order), size):
        yield Batch(order[start : start + size], ids)


def _fastest(model, ids, forms):
    """The size of a batch and the form of the output distribution, by trial."""
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    tried = order[len(order) // 2 :][:TRIED]
    heads, seconds = {}, {}
    for form in forms:
        compiles = form == "compiled"
        heads[form] = torch.compile(_head, dynamic=True) if compiles else _head
        for size in SIZES:
            batches = list(_batches(tried, ids, size))
            for _ in range(2):  # the first compiles
                started = time.perf_counter()
                for batch in batches:
                    _score(model, heads[form], batch)
                seconds[size, form] = time.perf_counter() - started
    size, form = min(seconds, key=seconds.__getitem__)
    return size, heads[form], f"torch, {form}, {size} lines side by side"


@torch.inference_mode()
def _score(model: LanguageModel, head: Callable[..., Tensor], batch: Batch) -> Tensor:
    """The log-probability of each token of a batch, `[N]`."""
    x = functional.embedding(batch.inputs, model.table)
    for layer in model.layers:
        x, _ = layer(x)
    return head(model, x[batch.live], batch.targets)


def _head(model: LanguageModel, outputs: Tensor, targets: Tensor) -> Tensor:
    """Those of tokens `[N]`, from the last layer's outputs `[N, H]`."""
    log_prior = model.prior(outputs).log_softmax(-1)
    latents = torch.tanh(model.latent(outputs))
    latents = latents.unflatten(-1, (log_prior.shape[-1], -1))
    logits = functional.linear(latents, model.table, model.bias)
    own = logits.gather(-1, targets[:, None, None].expand(*log_prior.shape, 1))
    return (log_prior + own.squeeze(-1) - logits.logsumexp(-1)).logsumexp(-1)
