"""A language model as pure functions, made of the settings of a network."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from jax import Array

from glrnn.config import Config
from glrnn.data.windows import ignores_padding
from glrnn.errors import UsageError
from glrnn.ground.dropout import Masks
from glrnn.ground.validation import check_integers
from glrnn.heads.cutoffs import check_cutoffs
from glrnn.model import forward
from glrnn.model.forward import Outcome
from glrnn.model.network import Network, init, mask_shapes, parts_of
from glrnn.model.params import Carry


class Model(NamedTuple):
    """A language model as pure functions.

    Attributes:
        init: `key -> Params`.
        initial_carry: `batch_size -> carry`, zeros.
        mask_shapes: `(batch_size, num_steps) -> Masks` that hold shapes, for
            `dropout.draw_masks`.
        apply: `(params, carry, window, masks=None, temperature=None) -> Outcome`;
            without masks it is the model to evaluate. All logits are divided by the
            temperature if there is one. Parameters in half precision are computed with
            in float32. Ids and the window's length are checked where they are known,
            which is outside of `jax.jit`.
        vocabulary_size: V, which all ids are below.
        log_likelihoods: `(params, carry, window, masks=None, temperature=None) ->
            ([T, B], carry)`, the log-probability of each target in nats.
        log_probs: `(params, carry, window, masks=None, temperature=None) ->
            ([T, B, V], carry)`, those of all words; the targets are not read.
    """

    init: Callable[[Array], Any]
    initial_carry: Callable[[int], Carry]
    mask_shapes: Callable[[int, int], Masks]
    apply: Callable[..., Outcome]
    vocabulary_size: int
    log_likelihoods: Callable[..., tuple[Array, Carry]]
    log_probs: Callable[..., tuple[Array, Carry]]


def language_model(config: Config, vocabulary_size: int, num_layers: int) -> Model:
    """The network of one phase.

    Args:
        config: The sizes, cells and head.
        vocabulary_size: V.
        num_layers: The number of layers, the first ones of `config.layers`.

    Returns:
        The same `Model` for the same network, whatever else the config says, so that
        compiled programs are shared.

    Raises:
        UsageError: There are not so many layers, or no word, or a number of them is no
            integer; or the head's cut-offs do not suit the vocabulary.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from glrnn.data.windows import Window
        >>> model = language_model(Config(), vocabulary_size=50, num_layers=2)
        >>> params = model.init(jax.random.key(0))
        >>> tokens = jnp.zeros((5, 3), int)
        >>> window = Window(tokens, tokens, 5)
        >>> outcome = model.apply(params, model.initial_carry(3), window)
        >>> outcome.outputs.shape
        (5, 3, 128)
        >>> language_model(Config(seed=1), 50, 2) is model
        True
    """
    check_integers("vocabulary size", vocabulary_size)
    check_integers("number of layers", num_layers)
    if vocabulary_size < 1:
        raise UsageError(f"vocabulary_size is {vocabulary_size}; it must be at least 1")
    if not 1 <= num_layers <= len(config.layers):
        raise UsageError(
            f"num_layers is {num_layers}; the config has {len(config.layers)} layers"
        )
    if config.has_cutoffs:
        check_cutoffs(config.cutoffs, vocabulary_size)
    return _model(
        Network(
            vocabulary_size=vocabulary_size,
            embedding_size=config.embedding_size,
            embedding_bound=config.embedding_bound,
            layers=config.layers[:num_layers],
            head=config.head,
            num_softmaxes=config.num_softmaxes,
            cutoffs=config.cutoffs,
            sum_outputs=config.sum_outputs,
            masks_per_step=config.masks_per_step,
            word_masks_per_sequence=config.word_masks_per_sequence,
        )
    )


@lru_cache(maxsize=64)
def _model(network: Network) -> Model:
    cells = parts_of(network).cells
    return Model(
        init=partial(init, network),
        initial_carry=lambda batch_size: tuple(
            cell.initial_state(batch_size) for cell in cells
        ),
        mask_shapes=partial(mask_shapes, network),
        apply=ignores_padding(forward.reading(network, forward.loss)),
        vocabulary_size=network.vocabulary_size,
        log_likelihoods=forward.reading(network, forward.log_likelihoods),
        log_probs=forward.reading(network, forward.log_probs),
    )
