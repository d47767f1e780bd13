"""PyTorch's side of a comparison: an idiomatic AWD-LSTM with a mixture of softmaxes.

The layers are PyTorch's own `nn.LSTM`, which uses cuDNN on a GPU. The gradient of each
group is clipped to a norm of its own, as on this project's side.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.presets import (
    DYNAMIC_DECAY_RATE,
    DYNAMIC_EPSILON,
    DYNAMIC_LEARNING_RATE,
    DYNAMIC_LENGTH,
    DYNAMIC_WINDOWS,
    EVALUATED_WINDOWS,
    GRADIENT_SIZE,
    HIDDEN_RATE,
    LEARNING_RATE,
    MAX_NORM,
    RATES,
    SENTENCES,
    SIDE_BY_SIDE,
    WEIGHT_DECAY,
    Preset,
)


def locked_dropout(x, rate):
    """Dropout with one mask for all time steps."""
    return x * functional.dropout(torch.ones_like(x[:1]), rate)


class LanguageModel(nn.Module):
    """Stacked LSTM layers and a mixture of softmaxes over the tied embedding."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.table = nn.Parameter(
            torch.empty(preset.vocabulary, preset.embedding).uniform_(-0.1, 0.1)
        )
        self.bias = nn.Parameter(torch.zeros(preset.vocabulary))
        self.layers = nn.ModuleList(
            nn.LSTM(preset.hidden if below else preset.embedding, preset.hidden)
            for below in range(preset.layers)
        )
        self.prior = nn.Linear(preset.hidden, preset.softmaxes, bias=False)
        self.latent = nn.Linear(preset.hidden, preset.softmaxes * preset.embedding)

    def groups(self):
        """Yields the parameters of each clip group."""
        yield [self.table, self.bias]
        yield from (list(layer.parameters()) for layer in self.layers)
        yield [*self.prior.parameters(), *self.latent.parameters()]

    def forward(self, tokens, targets, carry):
        """The mean loss, the carry, and the last outputs before and after dropout."""
        log_probs, *others = self.predict(tokens, carry)
        return functional.nll_loss(log_probs, targets), *others

    def predict(self, tokens, carry):
        """As `forward`, with the log-probabilities `[T * B, V]` instead of the loss."""
        table = self.table
        if self.training:
            words = torch.ones_like(table[:, :1])
            table = table * functional.dropout(words, RATES.embedding)
        x = functional.embedding(tokens, table)
        if self.training:
            x = locked_dropout(x, RATES.input)
        after = []
        for layer, state in zip(self.layers, carry, strict=True):
            weight = functional.dropout(
                layer.weight_hh_l0, RATES.recurrent, self.training
            )
            outputs, state = torch.func.functional_call(
                layer, {"weight_hh_l0": weight}, (x, state)
            )
            after.append(state)
            last = layer is self.layers[-1]
            rate = RATES.output if last else HIDDEN_RATE
            x = locked_dropout(outputs, rate) if self.training else outputs
        latents = torch.tanh(self.latent(x))
        if self.training:
            latents = locked_dropout(latents, RATES.latent)
        latents = latents.unflatten(-1, (self.prior.out_features, -1))
        each = functional.linear(latents, self.table, self.bias).softmax(-1)
        prior = self.prior(x).softmax(-1)
        mixed = (each * prior.unsqueeze(-1)).sum(-2)
        return torch.log(mixed + 1e-8).flatten(0, 1), after, outputs, x


def make_step(
    preset: Preset, mode: str, compiled: bool, device: str
) -> tuple[Callable[[], float], int]:
    """Returns a function that takes one step and returns its loss, and the model size.

    Args:
        preset: The size of the network.
        mode: `train`, `eval`, `dynamic` or `score`.
        compiled: Whether to use `torch.compile`.
        device: PyTorch's name of the device.
    """
    torch.manual_seed(0)
    model = LanguageModel(preset).to(device)
    size = sum(param.numel() for param in model.parameters())
    if mode == "score":
        predict = torch.compile(model.predict) if compiled else model.predict
        return _scoring(preset, model, predict, device), size
    forward = torch.compile(model) if compiled else model
    make = {"train": _training, "eval": _evaluation, "dynamic": _dynamic}[mode]
    return make(preset, model, forward, device), size


def _random_window(preset, device):
    """Inputs `[T, B]`, flat targets `[T * B]` and a carry of zeros."""
    shape = preset.window, preset.batch
    tokens = torch.randint(preset.vocabulary, shape, device=device)
    targets = torch.randint(preset.vocabulary, (preset.tokens,), device=device)
    return tokens, targets, _zero_carry(preset, preset.batch, device)


def _zero_carry(preset, batch_size, device):
    zeros = torch.zeros(1, batch_size, preset.hidden, device=device)
    return [(zeros, zeros)] * preset.layers


def _detached(carry):
    return [(h.detach(), c.detach()) for h, c in carry]


def _training(preset, model, forward, device):
    tokens, targets, carry = _random_window(preset, device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    model.train()

    def step() -> float:
        nonlocal carry
        optimizer.zero_grad()
        nll, after, outputs, dropped = forward(tokens, targets, carry)
        steps = outputs[1:] - outputs[:-1]
        loss = nll + 2 * dropped.square().mean() + steps.square().mean()
        loss.backward()
        for group in model.groups():
            nn.utils.clip_grad_norm_(group, MAX_NORM)
        optimizer.step()
        carry = _detached(after)
        return nll.item()

    return step


def _evaluation(preset, model, forward, device):
    tokens, targets, carry = _random_window(preset, device)
    model.eval()

    @torch.no_grad()
    def step() -> float:
        nonlocal carry
        total = 0.0
        for _ in range(EVALUATED_WINDOWS):
            nll, carry, _, _ = forward(tokens, targets, carry)
            total += nll.item()
        return total / EVALUATED_WINDOWS

    return step


def _dynamic(preset, model, forward, device):
    """Dynamic evaluation; every step starts from the trained parameters."""
    # Evaluation has no dropout, but cuDNN computes gradients only in training mode.
    model.eval()
    model.layers.train()
    params = list(model.parameters())
    trained = [param.detach().clone() for param in params]
    sizes = [torch.full_like(param, GRADIENT_SIZE) for param in trained]
    whole = sum(each.mean() for each in sizes) / len(sizes)
    pulls = [(DYNAMIC_DECAY_RATE * each / whole).clamp(max=1) for each in sizes]
    rates = [DYNAMIC_LEARNING_RATE / (each + DYNAMIC_EPSILON) for each in sizes]
    count = DYNAMIC_WINDOWS * DYNAMIC_LENGTH + 1
    text = torch.randint(preset.vocabulary, (count, 1), device=device)
    first_carry = _zero_carry(preset, 1, device)

    @torch.no_grad()
    def update() -> None:
        for param, anchor, pull, rate in zip(
            params, trained, pulls, rates, strict=True
        ):
            param.lerp_(anchor, pull)
            param.addcmul_(param.grad, rate, value=-1)

    def step() -> float:
        carry = first_carry
        for param, anchor in zip(params, trained, strict=True):
            param.data.copy_(anchor)
        total = 0.0
        for start in range(0, DYNAMIC_WINDOWS * DYNAMIC_LENGTH, DYNAMIC_LENGTH):
            model.zero_grad()
            window = slice(start, start + DYNAMIC_LENGTH)
            targets = text[1:][window].flatten()
            nll, after, _, _ = forward(text[window], targets, carry)
            nll.backward()
            total += nll.item()
            carry = _detached(after)
            update()
        return total / DYNAMIC_WINDOWS

    return step


def _scoring(preset, model, predict, device):
    """Sentences of like length side by side, padded to the longest of each batch."""
    model.eval()
    batches = []
    order = sorted(SENTENCES, reverse=True)
    for start in range(0, len(order), SIDE_BY_SIDE):
        lengths = order[start : start + SIDE_BY_SIDE]
        shape = lengths[0], len(lengths)
        tokens = torch.randint(preset.vocabulary, shape, device=device)
        targets = torch.randint(preset.vocabulary, shape, device=device)
        steps = torch.arange(lengths[0], device=device)[:, None]
        live = steps < torch.tensor(lengths, device=device)
        batches.append((tokens, targets, live))

    @torch.no_grad()
    def step() -> float:
        total = 0.0
        for tokens, targets, live in batches:
            carry = _zero_carry(preset, tokens.shape[1], device)
            log_probs = predict(tokens, carry)[0]
            own = log_probs.gather(1, targets.flatten()[:, None]).view(tokens.shape)
            total -= own[live].sum().item()
        return total / sum(SENTENCES)

    return step
