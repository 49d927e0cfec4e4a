"""What recursive parts carry from month to month: the same bits out of storage as went in, and the same outputs wherever a run was cut."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.property.laws import STAMP
from tests.property.synthetic import SHORT
from tests.unit.panels import candles, interest
from transforms.estimators import HOUR_US
from transforms.index import trail
from transforms.index.build import derive, stored
from transforms.index.checkpoint import POOLED, Checkpoint, joined, packed, split, unpacked
from transforms.index.segments import Segments, month_start, stitched
from transforms.windows import DAY, Window, utc

QUICK = settings(max_examples=60, deadline=None)
DTYPES = [np.float64, np.int64, np.int8, np.int32, np.bool_]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


@st.composite
def arrays(draw, shape=SHAPES):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    whole = draw(shape)
    size = int(np.prod(whole)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    found = np.frombuffer(raw, dtype=np.uint8 if dtype == np.bool_ else dtype).copy()
    return (found % 2).astype(np.bool_).reshape(whole) if dtype == np.bool_ else found.reshape(whole)


# --- storage ----------------------------------------------------------------------------------------------------------------------


@QUICK
@given(state=st.dictionaries(st.text("abc_.", min_size=1), arrays(), max_size=4))
def test_a_block_comes_back_as_it_was(state):
    """Any bits: every NaN, both zeros, no elements, no axis at all."""
    back = unpacked(packed(state))
    assert sorted(back) == sorted(state)
    for name, array in state.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert bits(back[name]) == bits(array)
        assert back[name].flags.writeable


def test_the_same_arrays_give_the_same_bytes():
    one = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False])}
    turned = {"b": one["b"].copy(), "a": np.asfortranarray(one["a"])}
    assert packed(one) == packed(turned)
    assert packed(one) != packed({**one, "a": one["a"] + 1})
    assert packed({"a": one["a"]}) != packed({"a": one["a"].reshape(3, 2)})  # the shape is part of it
    assert unpacked(packed({"a": one["a"][:, ::2]}))["a"].tolist() == [[0, 2], [3, 5]]


ASSETS = ["AAA", "BBB", "CCC"]


@QUICK
@given(data=st.data())
def test_a_state_split_by_asset_is_joined_again(data):
    tail = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    state = {name: data.draw(arrays(st.just((3, *tail)))) for name in ("x", "pooled_y")}
    blocks = {}
    split(state, ASSETS, "module", blocks)
    assert set(blocks) == {*ASSETS, POOLED}
    assert set(blocks["AAA"]) == {"module.x"}
    assert set(blocks[POOLED]) == {"module.pooled_y"}
    kept = {key: unpacked(packed(block)) for key, block in blocks.items()}
    fresh = {name: np.zeros_like(array) for name, array in state.items()}
    order = data.draw(st.permutations(ASSETS))
    back = joined(fresh, kept, order, "module")
    for n, asset in enumerate(order):
        assert bits(back["x"][n]) == bits(state["x"][ASSETS.index(asset)])
    assert bits(back["pooled_y"]) == bits(state["pooled_y"])
    assert not any(array.any() for array in fresh.values())


def test_an_asset_without_a_block_starts_fresh():
    blocks = {}
    split({"x": np.array([1.0, 2.0])}, ["AAA", "BBB"], "one", blocks)
    back = joined({"x": np.array([-1.0, -1.0, -1.0])}, blocks, ["ZZZ", "BBB", "AAA"], "one")
    assert back["x"].tolist() == [-1, 2, 1]
    assert joined({"x": np.array([-1.0])}, blocks, ["AAA"], "another")["x"].tolist() == [-1]  # another module's
    assert Checkpoint(utc("2024-01-01"), {**blocks, POOLED: {}}).assets == ["AAA", "BBB"]


# --- segments -----------------------------------------------------------------------------------------------------------------------

START = utc("2023-12-20")
T0 = int(START.timestamp()) * 1_000_000
BARS = 24 * 70
WHEN = T0 + np.arange(1, BARS + 1, dtype=np.int64) * HOUR_US
EVER = np.ones((2, BARS), dtype=bool)


@pytest.mark.parametrize(
    ("instant", "expected"),
    [("2024-01-01", "2024-01-01"), ("2024-01-01T00:00:01", "2024-01-01"), ("2024-02-29T23:59", "2024-02-01"), ("2023-12-31", "2023-12-01")],
)
def test_month_start(instant, expected):
    assert month_start(utc(instant)) == utc(expected)


def counting(names, when, present, before, values):
    """A module that sums what it sees, per asset and over all of them: (sums, all sums, segments)."""
    segments = Segments(when, names, present, before)

    def step(piece, state):
        own = state["sum"][:, None] + np.cumsum(values[:, piece], axis=1)
        every = state["pooled_all"][:, None] + np.cumsum(values[:, piece].sum(axis=0))[None, :]
        return (own, every), {"sum": own[:, -1].copy(), "pooled_all": every[:, -1].copy()}

    fresh = {"sum": np.zeros(len(names), dtype=np.int64), "pooled_all": np.zeros(1, dtype=np.int64)}
    own, every = stitched(segments.run("counting", fresh, step))
    return own, every, segments


def test_bars_are_cut_at_the_starts_of_months():
    segments = Segments(WHEN, ["AAA", "BBB"], EVER, None)
    assert [piece.start for piece in segments.pieces] == [0, 24 * 12, 24 * 43]
    assert segments.pieces[-1].stop == BARS
    assert segments.cuts == [utc("2024-01-01"), utc("2024-02-01"), None]


def test_a_run_that_ends_at_a_month_start_has_its_checkpoint():
    segments = Segments(WHEN[: 24 * 12], ["AAA"], EVER[:1, : 24 * 12], None)
    assert (segments.pieces, segments.cuts) == ([slice(0, 24 * 12)], [utc("2024-01-01")])


def test_days_are_cut_like_hours():
    """A daily bar that ends at the start of a month closes the month before."""
    when = T0 + np.arange(1, 30, dtype=np.int64) * 24 * HOUR_US
    segments = Segments(when, ["AAA"], np.ones((1, 29), dtype=bool), None)
    assert segments.pieces == [slice(0, 12), slice(12, 29)]
    assert segments.cuts == [utc("2024-01-01"), None]


@pytest.mark.parametrize("month", ["2024-01-01", "2024-02-01"])
def test_continued_from_a_stored_checkpoint_a_module_says_the_same(month):
    values = np.random.default_rng(1).integers(0, 100, (2, BARS))
    own, every, segments = counting(["AAA", "BBB"], WHEN, EVER, None, values)
    point = next(one for one in segments.checkpoints() if one.as_of == utc(month))
    point = Checkpoint(point.as_of, {key: unpacked(packed(block)) for key, block in point.blocks.items()})
    rest = int(np.searchsorted(WHEN, int(point.as_of.timestamp()) * 1_000_000, side="right"))
    again, every_again, later = counting(["AAA", "BBB"], WHEN[rest:], EVER[:, rest:], point, values[:, rest:])
    assert again.tolist() == own[:, rest:].tolist()
    assert every_again.tolist() == every[:, rest:].tolist()
    assert later.last["counting"]["sum"].tolist() == values.sum(axis=1).tolist()


def test_an_asset_nothing_is_known_of_has_no_state_and_no_checkpoint():
    """So it does not matter when it was first asked about: heard of in February, it starts then."""
    values = np.ones((2, BARS), dtype=np.int64)
    present = EVER.copy()
    present[1, : 24 * 43] = False
    own, _, segments = counting(["AAA", "BBB"], WHEN, present, None, values)
    assert own[1, -1] == BARS - 24 * 43  # what was made of its empty bars is dropped at the cut
    january, february = segments.checkpoints()
    assert january.assets == february.assets == ["AAA"]
    rest = slice(24 * 43, None)
    again, _, _ = counting(["AAA", "BBB"], WHEN[rest], present[:, rest], february, values[:, rest])
    assert again.tolist() == own[:, rest].tolist()


def test_an_asset_that_fell_silent_keeps_its_state():
    """Known by a block from before, also where the run sees none of its rows."""
    values = np.ones((2, BARS), dtype=np.int64)
    _, _, segments = counting(["AAA", "BBB"], WHEN, EVER, None, values)
    january = segments.checkpoints()[0]
    silent = EVER.copy()
    silent[1] = False
    rest = slice(24 * 12, None)
    again, _, later = counting(["AAA", "BBB"], WHEN[rest], silent[:, rest], january, values[:, rest])
    assert again[1, -1] == BARS
    assert later.checkpoints()[0].assets == ["AAA", "BBB"]


@dataclass(frozen=True)
class Pair:
    a: np.ndarray
    b: dict[str, np.ndarray]


@QUICK
@given(cuts=st.lists(st.integers(0, 30), max_size=3))
def test_outputs_are_stitched_along_their_last_axis(cuts):
    whole = (Pair(np.arange(60.0).reshape(2, 30), {"x": np.arange(30), "y": np.ones((1, 2, 30))}), np.zeros((1, 30)))

    def cut(low, high):
        pair, plain = whole
        return (Pair(pair.a[:, low:high], {name: array[..., low:high] for name, array in pair.b.items()}), plain[:, low:high])

    found = stitched([cut(low, high) for low, high in pairwise([0, *sorted(cuts), 30])])
    assert found[0].a.tolist() == whole[0].a.tolist()
    assert {name: array.tolist() for name, array in found[0].b.items()} == {name: array.tolist() for name, array in whole[0].b.items()}
    assert found[1].tolist() == whole[1].tolist()


def test_outputs_that_cannot_be_stitched_are_refused():
    with pytest.raises(TypeError, match="found outputs of type list"):
        stitched([[1], [2]])


# --- the table --------------------------------------------------------------------------------------------------------------------


def hourly(days):
    amount = 100 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, 24 * days)))
    return {"open_interest": interest(amount, usd=amount * 50), "candles": candles(50 * amount / 100)}


def run(window, before=None):
    return derive(hourly(40), window, "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP, before=before)


def test_checkpoints_are_rows_at_month_starts_and_come_back():
    """Rows of 40 days from 1 May: one month start, 1 June; the quantity index goes on from it."""
    window = Window(utc("2023-05-01"), utc("2023-06-10"))
    found = run(window)
    rows = found["checkpoints"]
    assert set(rows.column("as_of").to_pylist()) == {utc("2023-06-01")}
    assert rows.column("asset").to_pylist() == ["*", "BTC"]
    point = stored(rows)
    assert (point.as_of, point.assets) == (utc("2023-06-01"), ["BTC"])
    rest = Window(utc("2023-06-03"), window.end)
    later, alone = run(rest, point), run(rest)
    names = ["s", "s_pct", "f", "x", "regime", "oi_quantity_index"]
    index = found["readings"].column("oi_quantity_index").to_numpy()
    amount = hourly(40)["open_interest"].column("open_interest_native").to_numpy()
    assert index == pytest.approx(amount / amount[0], rel=1e-9)  # through the month start as through any other bar
    whole = found["readings"].filter(pa.compute.greater(found["readings"].column("as_of"), pa.scalar(rest.start)))
    assert later["readings"].select(names).equals(whole.select(names))
    assert alone["readings"].column("oi_quantity_index")[0].as_py() != whole.column("oi_quantity_index")[0].as_py()
    assert later["checkpoints"].num_rows == 0


def test_s_pct_is_s_among_its_own_published_past():
    rows = run(Window(utc("2023-05-01"), utc("2023-05-20")))["readings"]
    s, p = (np.array(rows.column(name).to_numpy(zero_copy_only=False), dtype=float) for name in ("s", "s_pct"))
    when = rows.column("as_of").cast(pa.int64()).to_numpy()
    rule = SHORT["1h"].cadence("1h")
    expected, _, _ = trail.run(s[None, :], when, trail.start(1, SHORT["1h"].score, rule), SHORT["1h"].score, rule)
    assert np.isfinite(p).sum() > 100
    np.testing.assert_array_equal(p, expected[0])


def test_no_rows_are_no_checkpoint():
    assert stored(run(Window(utc("2023-05-02"), utc("2023-05-03")))["checkpoints"]) is None


def test_a_checkpoint_of_the_future_is_refused():
    point = Checkpoint(datetime(2023, 6, 1, tzinfo=UTC), {})
    with pytest.raises(ValueError, match="found a checkpoint of 2023-06-01"):
        run(Window(point.as_of - timedelta(hours=1), point.as_of + DAY), point)
