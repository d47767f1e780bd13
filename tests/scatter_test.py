"""Rows added into a table, beside `np.add.at`, by each platform's way of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glrnn.ground import devices
from glrnn.heads import scatter


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize(
    ("num_rows", "most", "width"), [(1, 8, (3,)), (7, 8, ()), (23, 5, (2, 2))]
)
def test_rows_are_added_where_they_belong(platform, num_rows, most, width, monkeypatch):
    monkeypatch.setattr(devices, "platform", lambda: platform)
    monkeypatch.setattr(scatter, "MOST_ROWS", most)
    rng = np.random.default_rng(num_rows)
    table = rng.normal(size=(6, *width)).astype(np.float32)
    # All of them in a few places, the first and the last among them.
    indices = rng.choice([0, 3, 5], num_rows).astype(np.int32)
    rows = rng.normal(size=(num_rows, *width)).astype(np.float32)
    expected = table.astype(np.float64)
    np.add.at(expected, indices, rows)
    found = scatter.add_rows(jnp.asarray(table), jnp.asarray(indices), rows)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_half_precision_adds_up_in_float32(platform, monkeypatch):
    """In bfloat16 a sum of ones stops at 256."""
    monkeypatch.setattr(devices, "platform", lambda: platform)
    monkeypatch.setattr(scatter, "MOST_ROWS", 200)
    ones = jnp.ones(600, jnp.bfloat16)
    found = scatter.add_rows(ones[:2], jnp.zeros(600, int), ones)
    assert found.dtype == jnp.bfloat16
    assert found.tolist() == [jnp.bfloat16(601), 1]


def test_no_place_is_written_twice_but_on_a_cpu(monkeypatch):
    def scatters(platform):
        monkeypatch.setattr(devices, "platform", lambda: platform)
        lowered = jax.jit(lambda *args: scatter.add_rows(*args)).lower(
            jnp.zeros((6, 2)), jnp.zeros(4, jnp.int32), jnp.ones((4, 2))
        )
        text = lowered.as_text()
        assert text.count('"stablehlo.scatter"(') == 1
        return "unique_indices = true" in text

    assert scatters("gpu")
    assert not scatters("cpu")
