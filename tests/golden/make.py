"""Makes the reference values of `tests/parity_test.py` with PyTorch.

    pip install torch==2.13.0 numpy
    python tests/golden/make.py

It writes one file a network, `<head>_<layers>.npz` beside this script, and prints how
far the same computation in single precision comes out from what it wrote.

Each file holds the settings as JSON, the parameters at first, a stream of tokens cut
into windows, the carry before the first window, and every dropout mask of every window;
then what PyTorch makes of them in double precision: the loss, the gradients and the
carry of the first window, the parameters after 30 updates of SGD and after 30 more of
averaged SGD, and the average. Weights have PyTorch's shapes, `[outputs, inputs]`.

The equations are the project's, not those of an optimizer in `torch.optim`: clipping
adds nothing to the norm, a window's learning rate is its own, and the average holds
every iterate since averaging began.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FOLDER = Path(__file__).parent
UPDATES = 30  # a stage
VOCABULARY, BATCH = 30, 3
FIRST_LENGTH, SHORTEST, LONGEST = 7, 3, 9

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


class LanguageModel(nn.Module):
    """LSTM layers and a softmax, or a mixture of them, over the tied embedding."""

    def __init__(self, settings):
        super().__init__()
        embedding_size = settings["embedding_size"]
        hidden_size = settings["hidden_size"]
        self.num_softmaxes = settings["num_softmaxes"]
        self.table = nn.Parameter(torch.empty(VOCABULARY, embedding_size))
        self.bias = nn.Parameter(torch.empty(VOCABULARY))
        self.layers = nn.ModuleList(
            nn.LSTM(hidden_size if below else embedding_size, hidden_size)
            for below in range(depth(settings))
        )
        if settings["head"] == "mixture":
            self.prior = nn.Linear(hidden_size, self.num_softmaxes, bias=False)
            self.latent = nn.Linear(hidden_size, self.num_softmaxes * embedding_size)

    def forward(self, inputs, carry, masks):
        """Log-probabilities of every word, carry, last layer's outputs, the dropped."""
        x = (
            functional.embedding(inputs, masks["embedding"] * self.table)
            * masks["input"]
        )
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, carry, strict=True)):
            weight = masks[f"recurrent.{number}"] * layer.weight_hh_l0
            outputs, state = torch.func.functional_call(
                layer, {"weight_hh_l0": weight}, (x, tuple(state[:, None]))
            )
            after.append(torch.cat(state))
            x = outputs * masks[f"output.{number}"]
        return self.log_probabilities(x, masks), torch.stack(after), outputs, x

    def log_probabilities(self, x, masks):
        if self.num_softmaxes == 1:
            return functional.log_softmax(
                functional.linear(x, self.table, self.bias), dim=-1
            )
        latents = torch.tanh(self.latent(x)) * masks["latent"]
        latents = latents.unflatten(-1, (self.num_softmaxes, -1))
        each = functional.log_softmax(
            functional.linear(latents, self.table, self.bias), dim=-1
        )
        log_prior = functional.log_softmax(self.prior(x), dim=-1)
        return torch.logsumexp(log_prior.unsqueeze(-1) + each, dim=-2)


class Inputs(NamedTuple):
    """All that is drawn: nothing random comes from PyTorch.

    Attributes:
        params: By name, half precision, so that both sides begin at the same numbers.
        carry: `[L, 2, B, H]`, h and c of every layer.
        tokens: `[rows, B]`.
        lengths: Of the windows.
        keep: By place, what each window's dropout keeps.
    """

    params: dict
    carry: np.ndarray
    tokens: np.ndarray
    lengths: np.ndarray
    keep: dict


def depth(settings):
    return len(settings["dropout"]["hidden"]) + 1


def dropout_rates(settings):
    """By place; all layers drop their recurrent weights at one rate."""
    rates = settings["dropout"]
    outputs = [*rates["hidden"], rates["output"]]
    return {
        "embedding": rates["embedding"],
        "input": rates["input"],
        "latent": rates["latent"],
        **{f"recurrent.{number}": rates["recurrent"] for number in range(len(outputs))},
        **{f"output.{number}": rate for number, rate in enumerate(outputs)},
    }


def draw(settings, rng):
    """Parameters two or three times as large as the project's: no gradient is faint."""
    hidden_size = settings["hidden_size"]
    params = {}
    for name, param in LanguageModel(settings).named_parameters():
        bound = 0.3 if name in ("table", "bias") else 2 * hidden_size**-0.5
        params[name] = rng.uniform(-bound, bound, param.shape).astype(np.float16)
    carry = rng.uniform(-0.5, 0.5, (depth(settings), 2, BATCH, hidden_size))
    lengths = rng.integers(SHORTEST, LONGEST, 2 * UPDATES, endpoint=True)
    lengths[0] = FIRST_LENGTH
    tokens = rng.integers(VOCABULARY, size=(lengths.sum() + 1, BATCH))
    told = rng.random(tokens.shape) < 0.8
    for before, now, follows in zip(tokens[:-1], tokens[1:], told[1:], strict=True):
        now[follows] = (7 * before[follows] + 3) % VOCABULARY
    latent_size = settings["num_softmaxes"] * settings["embedding_size"]
    shapes = {
        "embedding": (VOCABULARY, 1),
        "input": (1, BATCH, settings["embedding_size"]),
        "latent": (1, BATCH, latent_size),
        "recurrent": (4 * hidden_size, hidden_size),
        "output": (1, BATCH, hidden_size),
    }
    keep = {
        place: rng.random((2 * UPDATES, *shapes[place.split(".")[0]])) >= rate
        for place, rate in dropout_rates(settings).items()
        if rate
    }
    return Inputs(
        params,
        carry.astype(np.float16),
        tokens.astype(np.uint8),
        lengths.astype(np.uint8),
        keep,
    )


def clip_groups(settings, model):
    """Embedding and decoder bias; each layer; the head."""
    groups = [
        [model.table, model.bias],
        *(layer.parameters() for layer in model.layers),
    ]
    if settings["head"] == "mixture":
        groups.append([*model.prior.parameters(), *model.latent.parameters()])
    return [list(group) for group in groups]


@torch.no_grad()
def update(settings, rule, model, length):
    """Clips, decays, descends; returns which groups were clipped."""
    clipped = []
    groups = clip_groups(settings, model)
    rate = rule["learning_rate"] * length / settings["window_length"]
    for group, limit in zip(groups, rule["max_norms"], strict=True):
        norm = torch.sqrt(sum(param.grad.square().sum() for param in group))
        scale = torch.clamp(limit / norm, max=1.0)
        clipped.append(bool(norm > limit))
        for param in group:
            param -= rate * (scale * param.grad + settings["weight_decay"] * param)
    return clipped


def reference(settings, drawn, dtype):
    """What the files hold beside what was drawn, and how often groups were clipped."""
    model = LanguageModel(settings).to(dtype)
    model.load_state_dict({k: torch.tensor(v) for k, v in drawn.params.items()})
    rates = dropout_rates(settings)
    carry = torch.tensor(drawn.carry, dtype=dtype)
    tokens = torch.tensor(drawn.tokens, dtype=torch.long)
    results, clipped, average, start = {}, [], None, 0

    def record(kind, arrays):
        for name, array in arrays.items():
            results[f"{kind}.{name}"] = array.detach().clone().numpy()

    for index, length in enumerate(drawn.lengths.tolist()):
        rows = tokens[start : start + length + 1]
        start += length
        masks = {
            place: torch.tensor(keep[index], dtype=dtype) / (1 - rates[place])
            for place, keep in drawn.keep.items()
        }
        model.zero_grad()
        log_probabilities, carry, outputs, dropped = model(rows[:-1], carry, masks)
        nll = functional.nll_loss(log_probabilities.flatten(0, 1), rows[1:].flatten())
        ar = dropped.square().mean()
        tar = outputs.diff(dim=0).square().mean()
        loss = (
            nll
            + settings["activation_regularization"] * ar
            + settings["temporal_activation_regularization"] * tar
        )
        loss.backward()
        carry = carry.detach()
        params = dict(model.named_parameters())
        if index == 0:
            results["loss"] = loss.detach().numpy()
            results["carry_after"] = carry.numpy()
            record("grad", {name: param.grad for name, param in params.items()})
        averaging = index >= UPDATES
        rule = settings["finetune" if averaging else "main"]
        clipped.append(update(settings, rule, model, length))
        if index == UPDATES - 1:
            record("sgd", params)
            average = {name: torch.zeros_like(param) for name, param in params.items()}
        if averaging:
            for name, param in params.items():
                average[name] += param.detach() / UPDATES
    record("asgd", params)
    record("average", average)
    return results, np.mean(clipped, axis=0)


def largest_difference(kinds, actual, expected):
    """Over the largest value of each array, the worst array of those kinds."""
    return max(
        np.abs(actual[name] - array).max() / np.abs(array).max()
        for name, array in expected.items()
        if name.split(".")[0] in kinds
    )


def main():
    for seed, settings in enumerate(CASES):
        drawn = draw(settings, np.random.default_rng(seed))
        expected, clipped = reference(settings, drawn, torch.float64)
        single, _ = reference(settings, drawn, torch.float32)
        path = FOLDER / f"{settings['head']}_{depth(settings)}.npz"
        np.savez_compressed(
            path,
            settings=json.dumps(settings),
            carry=drawn.carry,
            tokens=drawn.tokens,
            lengths=drawn.lengths,
            **{f"param.{name}": array for name, array in drawn.params.items()},
            **{f"keep.{place}": array for place, array in drawn.keep.items()},
            **{name: array.astype(np.float32) for name, array in expected.items()},
        )
        first = largest_difference({"loss", "grad", "carry_after"}, single, expected)
        last = largest_difference({"sgd", "asgd", "average"}, single, expected)
        print(
            f"{path.name}: {path.stat().st_size} bytes; in single precision the first "
            f"window is off by {first:.1e} and the updates by {last:.1e}; clipped "
            f"in {', '.join(f'{share:.0%}' for share in clipped)} of updates"
        )


if __name__ == "__main__":
    main()
