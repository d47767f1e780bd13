"""The model and its training as PyTorch computes them: their side of the comparisons.

The equations are the project's, not those of an optimizer in `torch.optim`: clipping
adds nothing to the norm, a window's learning rate is its own, and the average holds
every iterate since averaging began. Weights have PyTorch's shapes, `[outputs, inputs]`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class LanguageModel(nn.Module):
    """LSTM layers and a softmax, or a mixture of them, over the tied embedding."""

    def __init__(self, settings, vocabulary):
        super().__init__()
        embedding_size = settings["embedding_size"]
        hidden_size = settings["hidden_size"]
        self.num_softmaxes = settings["num_softmaxes"]
        self.table = nn.Parameter(torch.empty(vocabulary, embedding_size))
        self.bias = nn.Parameter(torch.empty(vocabulary))
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


def no_masks(settings):
    return dict.fromkeys(dropout_rates(settings), 1.0)


def mean_nll(log_probabilities, targets):
    return functional.nll_loss(log_probabilities.flatten(0, 1), targets.flatten())


def objective(settings, model, rows, carry, masks):
    """What is descended, of one window; and the carry after it."""
    log_probabilities, carry, outputs, dropped = model(rows[:-1], carry, masks)
    ar = dropped.square().mean()
    tar = outputs.diff(dim=0).square().mean()
    loss = (
        mean_nll(log_probabilities, rows[1:])
        + settings["activation_regularization"] * ar
        + settings["temporal_activation_regularization"] * tar
    )
    return loss, carry.detach()


def clip_groups(settings, rule, model):
    """Everything; or embedding and decoder bias, each layer, the head."""
    if len(rule["max_norms"]) == 1:
        return [list(model.parameters())]
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
    groups = clip_groups(settings, rule, model)
    rate = rule["learning_rate"] * length / settings["window_length"]
    for group, limit in zip(groups, rule["max_norms"], strict=True):
        norm = torch.sqrt(sum(param.grad.square().sum() for param in group))
        scale = torch.clamp(limit / norm, max=1.0)
        clipped.append(bool(norm > limit))
        for param in group:
            param -= rate * (scale * param.grad + settings["weight_decay"] * param)
    return clipped


def train(settings, rule, model, carry, windows):
    """One update a window.

    Args:
        settings: Of the network.
        rule: Learning rate and limits.
        model: Changed in place.
        carry: `[L, 2, B, H]`.
        windows: A list of rows, `[T + 1, B]`, and masks by place.

    Returns:
        The carry, the mean of the iterates, and which groups were clipped when.
    """
    average = {name: torch.zeros_like(param) for name, param in snapshot(model).items()}
    clipped = []
    for rows, masks in windows:
        model.zero_grad()
        loss, carry = objective(settings, model, rows, carry, masks)
        loss.backward()
        clipped.append(update(settings, rule, model, len(rows) - 1))
        for name, param in model.named_parameters():
            average[name] += param.detach() / len(windows)
    return carry, average, clipped


def snapshot(model):
    return {name: param.detach().clone() for name, param in model.named_parameters()}


@torch.no_grad()
def static_perplexity(settings, model, stream, window_length=70):
    """Of a stream `[rows, B]`; every target counts once, the carry goes through."""
    hidden_size = settings["hidden_size"]
    size = depth(settings), 2, stream.shape[1], hidden_size
    carry = torch.zeros(size, dtype=model.table.dtype)
    total = 0.0
    for start in range(0, len(stream) - 1, window_length):
        rows = stream[start : start + window_length + 1]
        log_probabilities, carry, _, _ = model(rows[:-1], carry, no_masks(settings))
        total += mean_nll(log_probabilities, rows[1:]).item() * (len(rows) - 1)
    return float(np.exp(total / (len(stream) - 1)))


# Of the authors' dynamic evaluation: lambda, eta, epsilon, tokens in a window.
DYNAMIC = {"decay": 0.075, "rate": 0.002, "epsilon": 0.001, "window": 5}
DYNAMIC_WINDOWS = 50


def dynamic_evaluation(settings, model, train, text, rule):
    """Nats per token of a text, the model learning from each window once it is scored.

    In the authors' convention: squared gradients are added up over the windows of the
    training set, and what they are relative to is the sum of the arrays' means.

    Args:
        settings: Of the network.
        model: Changed in place.
        train: `[rows, B]`.
        text: `[rows, 1]`.
        rule: As `DYNAMIC`.
    """

    def windows(stream):
        """The gradient of each window is at hand when its loss and length are given."""
        size = depth(settings), 2, stream.shape[1], settings["hidden_size"]
        carry = torch.zeros(size, dtype=model.table.dtype)
        for start in range(0, len(stream) - 1, rule["window"]):
            rows = stream[start : start + rule["window"] + 1]
            model.zero_grad()
            found, carry, _, _ = model(rows[:-1], carry, no_masks(settings))
            carry = carry.detach()
            loss = mean_nll(found, rows[1:])
            loss.backward()
            yield loss.item(), len(rows) - 1

    params = list(model.parameters())
    squares = [torch.zeros_like(param) for param in params]
    for _ in windows(train):
        for square, param in zip(squares, params, strict=True):
            square += param.grad**2
    sizes = [square.sqrt() for square in squares]
    whole = sum(size.mean() for size in sizes)
    pulls = [torch.clamp(size / whole, max=1 / rule["decay"]) for size in sizes]
    trained = [param.detach().clone() for param in params]
    total = 0.0
    for loss, length in windows(text):
        total += loss * length
        with torch.no_grad():
            for param, size, pull, anchor in zip(
                params, sizes, pulls, trained, strict=True
            ):
                step = rule["rate"] * param.grad / (size + rule["epsilon"])
                param += rule["decay"] * pull * (anchor - param) - step
    return total / (len(text) - 1)


class Sizes(NamedTuple):
    """How much is drawn.

    Attributes:
        vocabulary: Words, 256 at the most.
        batch: Columns.
        updates: A stage; there are two.
        first: The length of the first window.
        shortest: Of the others, at least 2.
        longest: Of the others.
    """

    vocabulary: int
    batch: int
    updates: int
    first: int
    shortest: int
    longest: int


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


def draw(settings, sizes, rng):
    """Parameters two or three times as large as the project's: no gradient is faint."""
    vocabulary, batch = sizes.vocabulary, sizes.batch
    hidden_size = settings["hidden_size"]
    params = {}
    for name, param in LanguageModel(settings, vocabulary).named_parameters():
        bound = 0.3 if name in ("table", "bias") else 2 * hidden_size**-0.5
        params[name] = rng.uniform(-bound, bound, param.shape).astype(np.float16)
    carry = rng.uniform(-0.5, 0.5, (depth(settings), 2, batch, hidden_size))
    num_windows = 2 * sizes.updates
    lengths = rng.integers(sizes.shortest, sizes.longest, num_windows, endpoint=True)
    lengths[0] = sizes.first
    tokens = rng.integers(vocabulary, size=(lengths.sum() + 1, batch))
    told = rng.random(tokens.shape) < 0.8
    for before, now, follows in zip(tokens[:-1], tokens[1:], told[1:], strict=True):
        now[follows] = (7 * before[follows] + 3) % vocabulary
    latent_size = settings["num_softmaxes"] * settings["embedding_size"]
    shapes = {
        "embedding": (vocabulary, 1),
        "input": (1, batch, settings["embedding_size"]),
        "latent": (1, batch, latent_size),
        "recurrent": (4 * hidden_size, hidden_size),
        "output": (1, batch, hidden_size),
    }
    keep = {
        place: rng.random((num_windows, *shapes[place.split(".")[0]])) >= rate
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


def reference(settings, drawn, dtype):
    """What is to be expected of what was drawn, and which groups were clipped when."""
    model = LanguageModel(settings, len(drawn.params["table"])).to(dtype)
    model.load_state_dict({k: torch.tensor(v) for k, v in drawn.params.items()})
    rates = dropout_rates(settings)
    carry = torch.tensor(drawn.carry, dtype=dtype)
    tokens = torch.tensor(drawn.tokens, dtype=torch.long)
    windows, start = [], 0
    for index, length in enumerate(drawn.lengths.tolist()):
        masks = no_masks(settings) | {
            place: torch.tensor(keep[index], dtype=dtype) / (1 - rates[place])
            for place, keep in drawn.keep.items()
        }
        windows.append((tokens[start : start + length + 1], masks))
        start += length

    rows, masks = windows[0]
    loss, carry_after = objective(settings, model, rows, carry, masks)
    loss.backward()
    results = {"loss": loss.detach().numpy(), "carry_after": carry_after.numpy()}

    def record(kind, arrays):
        results.update({f"{kind}.{name}": a.numpy() for name, a in arrays.items()})

    record("grad", {name: param.grad for name, param in model.named_parameters()})
    half = len(windows) // 2
    main, finetune = settings["main"], settings["finetune"]
    carry, _, clipped = train(settings, main, model, carry, windows[:half])
    record("sgd", snapshot(model))
    _, average, more = train(settings, finetune, model, carry, windows[half:])
    record("asgd", snapshot(model))
    record("average", average)
    return results, clipped + more


def largest_differences(actual, expected):
    """Of the first window, and of the parameters later; the worst array of each.

    A difference is taken over the largest value of its array.
    """
    first, later = [0.0], [0.0]
    for name, array in expected.items():
        largest = np.abs(array).max()
        if largest > 0:
            updated = name.split(".")[0] in ("sgd", "asgd", "average")
            difference = np.abs(actual[name] - array).max() / largest
            (later if updated else first).append(difference)
    return max(first), max(later)


def values(drawn, results):
    """What our side is given, by name: all that was drawn, and what comes of it.

    Of what was drawn, the carry before the first window, a stream of tokens, the
    lengths of the windows it is cut into, the parameters at first (`param.*`), and what
    every dropout of every window keeps (`keep.*`). Of what comes of it, the `loss`, the
    gradients (`grad.*`) and the carry of the first window (`carry_after`), the
    parameters after a stage of SGD (`sgd.*`) and after one of averaged SGD (`asgd.*`),
    and the average (`average.*`).
    """
    return {
        "carry": drawn.carry,
        "tokens": drawn.tokens,
        "lengths": drawn.lengths,
        **{f"param.{name}": array for name, array in drawn.params.items()},
        **{f"keep.{place}": array for place, array in drawn.keep.items()},
        **{name: array.astype(np.float32) for name, array in results.items()},
    }


def evaluations(settings, golden):
    """What the parameters after both stages make of the first words, by name.

    Those of the first column, in nats per token: by the parameters as they are
    (`static`), and as they learn from them (`dynamic`), the gradients of all columns
    measured.

    Args:
        settings: Of the network.
        golden: From `values`.
    """
    model = LanguageModel(settings, len(golden["asgd.table"])).double()
    model.load_state_dict(
        {name: torch.tensor(golden[f"asgd.{name}"]) for name in snapshot(model)}
    )
    tokens = torch.tensor(golden["tokens"], dtype=torch.long)
    text = tokens[: DYNAMIC_WINDOWS * DYNAMIC["window"] + 1, :1]
    static = np.log(static_perplexity(settings, model, text))
    dynamic = dynamic_evaluation(settings, model, tokens, text, DYNAMIC)
    return {"static": np.float32(static), "dynamic": np.float32(dynamic)}
