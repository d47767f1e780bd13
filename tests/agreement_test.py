"""What is compared of two updates, in which units, and what is too much."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from glrnn.model import Embedding, Params
from glrnn.training import agreement
from glrnn.training.agreement import TOLERANCES, compare_updates

STRICT = TOLERANCES["float32"]


def update(params, nll=2.0, norm=1.0, state=1.0):
    """What a step returns, of one layer and no head."""
    carry = (np.full((2, 3), state, np.float32),)
    metrics = {"nll": nll, "loss": nll + 1, "norms": {"all": norm}}
    return SimpleNamespace(params=params, carry=carry), metrics


def make_params(table=0.0, layer=0.0, small=0.0):
    arrays = [np.full((4, 3), value, np.float32) for value in (table, layer, small)]
    return Params(Embedding(arrays[0], np.zeros(4, np.float32)), (arrays[1:],), ())


BEFORE = make_params()
AFTER = make_params(1.0, 1.0, 1e-6)


def differing(found, expected=None, before=BEFORE, tolerance=STRICT):
    rows = compare_updates(
        before, found, expected or update(AFTER), ("all",), tolerance
    )
    return {row.name: row for row in rows if row.excess > 1}


def test_equal_updates_agree_and_everything_is_listed():
    rows = list(compare_updates(BEFORE, update(AFTER), update(AFTER), ("all",), STRICT))
    assert [row.difference for row in rows] == [0.0] * len(rows)
    assert [row.name for row in rows] == [
        "nll",
        "loss",
        "gradient norm of all",
        "update of embedding",
        "update of embedding, table",
        "update of embedding, bias",
        "update of layer 1",
        "update of layer 1, 0",
        "update of layer 1, 1",
        "state of layer 1",
    ]


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (update(AFTER, nll=2.001), {"nll", "loss"}),
        (update(AFTER, norm=1.1), {"gradient norm of all"}),
        (update(AFTER, state=1.1), {"state of layer 1"}),
        (
            update(make_params(1.1, 1.0, 1e-6)),
            {"update of embedding", "update of embedding, table"},
        ),
        # The same length in another direction.
        (update(make_params(-1.0, 1.0, 1e-6)), {"update of embedding, table"}),
        # A thing that is nothing but rounding beside its group.
        (update(make_params(1.0, 1.0, -1e-6)), set()),
        (update(make_params(1.0, 1.0, 1e-2)), {"update of layer 1, 1"}),
    ],
)
def test_what_differs_is_named(found, names):
    assert differing(found).keys() == names


def test_a_number_that_is_not_finite_is_wrong_unless_both_are():
    broken = update(make_params(math.nan, 1.0, 1e-6), math.nan, math.inf)
    found = differing(broken)
    assert {"nll", "gradient norm of all", "update of embedding, table"} <= set(found)
    assert found["nll"].difference == math.inf
    assert differing(broken, broken) == {}


def test_parameters_are_rounded_after_an_update():
    """Large ones leave little of a small update."""
    before, after = make_params(1e4, 1.0), make_params(1e4 + 1, 2.0)
    near = make_params(np.nextafter(np.float32(1e4 + 1), np.float32(2e4)), 2.0)
    assert differing(update(near), update(after), before) == {}
    far = make_params(1e4 + 1.01, 2.0)
    assert "update of embedding" in differing(update(far), update(after), before)


def test_both_numbers_and_their_difference_are_told():
    (row,) = differing(update(AFTER, norm=1.1)).values()
    assert (row.found, row.expected, row.tolerance) == (1.1, 1.0, STRICT.norm)
    assert row.difference == pytest.approx(0.1)


@pytest.mark.parametrize("cell", ["lstm", "nas"])
def test_a_gradient_scaled_by_a_tenth_is_seen_in_every_precision(cell):
    loosest = agreement.tolerance(None, [cell])
    for precision in TOLERANCES:
        # One cell that may differ more is enough.
        allowed = agreement.tolerance(precision, ["lstm", cell])
        assert np.all(np.array(allowed) <= loosest)
        assert (allowed == TOLERANCES[precision]) == (cell == "lstm")
    assert differing(update(AFTER, norm=1.1), tolerance=loosest)
