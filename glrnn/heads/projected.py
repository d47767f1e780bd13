"""A softmax over an embedding narrower than the layers (Melis et al. 2018)."""

import jax
from flax import struct
from jax import Array

from glrnn.cells import affine
from glrnn.ground.arrays import in_float32
from glrnn.heads.head import Head, mixture_head
from glrnn.heads.softmax import check_one, one_softmax


@struct.dataclass
class ProjectedParams:
    """The weights W of the projection, `[H, E]`, without a bias."""

    down: Array


def projected(hidden_size: int, embedding_size: int, num_softmaxes: int = 1) -> Head:
    """p(y) = softmax(D W o + b)[y]: layers may be wider than the embedding.

    W is initialised semi-orthogonal, and dropout acts on W o.

    Args:
        hidden_size: The hidden size of the last layer, H.
        embedding_size: E.
        num_softmaxes: Must be 1.

    Raises:
        ValueError: if `num_softmaxes` is not 1.

    Example:
        >>> projected(6, 4).init(jax.random.key(0)).down.shape
        (6, 4)
    """
    check_one(num_softmaxes)

    def init(key: Array) -> ProjectedParams:
        shape = hidden_size, embedding_size
        return ProjectedParams(jax.nn.initializers.orthogonal()(key, shape))

    def latents_and_prior(
        params: ProjectedParams, outputs: Array, mask: Array | None
    ) -> tuple[Array, Array]:
        outputs, down = in_float32((outputs, params.down))
        return one_softmax((), affine(outputs, down), mask)

    return mixture_head(init, latents_and_prior, embedding_size)
