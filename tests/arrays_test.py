"""What is widened, learned and known."""

import jax
import jax.numpy as jnp
import pytest

from glrnn.ground.arrays import in_float32, is_inexact


@pytest.mark.parametrize(
    ("dtype", "wide", "learned"),
    [
        ("float8_e4m3fn", "float32", True),
        ("float16", "float32", True),
        ("bfloat16", "float32", True),
        ("float32", "float32", True),
        ("complex64", "complex64", True),
        ("int8", "int8", False),
        ("bool", "bool", False),
    ],
)
def test_only_narrow_floating_point_is_widened(dtype, wide, learned):
    leaf = jnp.zeros(2, dtype)
    assert in_float32(leaf).dtype == wide
    assert is_inexact(leaf) == learned


def test_keys_stay_keys():
    key = jax.random.key(0)
    assert in_float32({"key": key})["key"] is key
    assert not is_inexact(key)
