"""Token ids are refused where they would be rounded, wrapped, clamped or flattened."""

import jax.numpy as jnp
import numpy as np
import pytest

from glrnn.data.ids import check_ids
from glrnn.errors import UsageError


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 19, 20], r"the text holds the id 20; ids must be in 0 \.\. 19"),
        ([0, -1, 2], r"the text holds the id -1; ids must be in 0 \.\. 19"),
        (np.arange(3) + 2**32, "holds the id 4294967296"),
        (np.array([1, 2**63], np.uint64), f"holds the id {2**63}"),
        ([2**70, 1], "dtype object; token ids must be integers"),
        ([1.0, 2.0], "dtype float64; token ids must be integers"),
        (jnp.ones(3), "dtype float32"),
        (["the", "cat"], "token ids must be integers"),
        ([True, False], "dtype bool"),
        (np.array([1, 2], "m8[s]"), "dtype timedelta64.*must be integers"),
        (np.zeros((5, 4), int), r"shape \(5, 4\); token ids must have 1 axis"),
        (3, r"shape \(\); token ids must have 1 axis"),
        ([[1], [2, 3]], r"no array; give token ids \[N\]"),
        (np.ma.masked_array([1, 2], [True, False]), "masked array"),
    ],
)
def test_what_is_no_row_of_ids_is_refused(ids, message):
    with pytest.raises(UsageError, match=message):
        check_ids(ids, "text", vocabulary_size=20)


@pytest.mark.parametrize("kind", [list, np.uint8, np.int64, jnp.asarray])
def test_integers_of_any_kind_are_ids(kind):
    ids = [3, 0, 2**7]
    given = ids if kind is list else kind(ids)
    found = check_ids(given)
    assert found.dtype == np.int32
    assert found.tolist() == ids


def test_integers_of_four_bits_are_ids():
    assert check_ids(jnp.array([3, 7], jnp.int4)).tolist() == [3, 7]
    with pytest.raises(UsageError, match="must be integers"):
        check_ids(jnp.ones(2, jnp.float8_e4m3fn))


def test_without_a_vocabulary_ids_must_fit_int32():
    assert check_ids([2**31 - 1]).tolist() == [2**31 - 1]
    with pytest.raises(UsageError, match=r"0 \.\. 2147483647"):
        check_ids([2**31])


def test_no_ids_are_ids():
    assert check_ids([]).dtype == np.int32
