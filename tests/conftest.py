"""JAX as strict as it goes, for tests and doctests alike, and the corpora.

Strict dtype promotion is left to the tests of our own functions, which ask for it with
`jax.numpy_dtype_promotion("strict")`: under it optax's adam, MultiSteps and cosine
schedule raise.
"""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder that holds `ptb/` and `wikitext-2/`, beside the checkout."""
    if not CORPORA.is_dir():
        pytest.skip("the corpora are not at hand")
    return CORPORA
