"""The host's loop over chunks, driven by a toy run: how it is cut changes nothing, and it ends when nothing moves."""

from typing import NamedTuple

import numpy as np
import pytest

from toylab.training.driver import drive, last_of
from toylab.training.options import ObservationPlan
from toylab.training.records import Status


class Carry(NamedTuple):
    value: np.ndarray
    status: np.ndarray


class Toy:
    """Runs (members,) of the logistic map, which no shortcut computes; member i freezes after `ends[i]` steps."""

    def __init__(self, plan, steps, ends):
        self.plan, self.steps, self.ends, self.calls = plan, steps, np.asarray(ends), []

    def begin(self):
        return Carry(np.linspace(0.1, 0.4, len(self.ends)), np.full(len(self.ends), int(Status.completed)))

    def chunk(self, carry, start, stop):
        self.calls.append((start, stop))
        shape = (len(self.ends), self.plan.blocks, self.plan.pair)
        values, counts = np.full(shape, np.nan), np.full(shape, -1)
        value, status = carry
        for t in range(start, stop):
            block, place = divmod(t - start, self.plan.stride)
            going = status == Status.completed
            if place < self.plan.pair:
                values[:, block, place] = np.where(going, value, np.nan)
                counts[:, block, place] = np.where(going, t, -1)
            value = np.where(going, 3.9 * value * (1 - value), value)
            status = np.where(going & (t + 1 >= self.ends), int(Status.diverged), status)
        return Carry(value, status), {"value": values, "count": counts}

    def parts(self):
        return drive(self.chunk, self.begin(), self.plan, self.steps, lead=1)


def driven(stride=1, pair=1, blocks=100, steps=47, ends=(1000, 1000)):
    toy = Toy(ObservationPlan(stride, pair, blocks), steps, ends)
    return toy, list(toy.parts())


@pytest.mark.parametrize(("stride", "pair"), [(1, 1), (4, 2)])
@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_chunks_of_any_size_give_the_same_records_bit_for_bit(stride, pair, blocks):
    _, whole = driven(stride, pair)
    toy, parts = driven(stride, pair, blocks)
    assert all(stop - start <= blocks * stride for start, stop in toy.calls)
    for name, values in whole[-1].records().items():
        np.testing.assert_array_equal(parts[-1].records()[name], values)
        assert values.shape == (2, len(toy.plan.observed(47)))
    np.testing.assert_array_equal(parts[-1].carry.value, whole[-1].carry.value)
    np.testing.assert_array_equal(whole[-1].records()["count"][0], toy.plan.observed(47))  # each once, in order


@pytest.mark.parametrize("slow_after", [None, 0.0])
def test_the_time_that_chunks_take_changes_no_record(monkeypatch, slow_after):
    _, usual = driven(blocks=8)
    if slow_after is not None:  # every chunk takes too long: they stay as small as they can be
        monkeypatch.setattr("toylab.training.driver.SHORT", -1.0)
        monkeypatch.setattr("toylab.training.driver.LONG", slow_after)
    toy, parts = driven(blocks=8)
    largest = max(stop - start for start, stop in toy.calls)
    assert largest == (8 if slow_after is None else 1)
    np.testing.assert_array_equal(parts[-1].records()["value"], usual[-1].records()["value"])


def test_every_part_is_the_beginning_of_the_whole():
    _, parts = driven(blocks=4)
    whole = parts[-1].records()["value"]
    assert [part.done for part in parts] == sorted({part.done for part in parts}) and parts[-1].done == 47
    for part in parts:
        np.testing.assert_array_equal(part.records()["value"], whole[:, : part.done])
        np.testing.assert_array_equal(part.latest["value"], whole[:, part.done - 1])


def test_it_stops_when_every_run_is_frozen_and_no_earlier():
    toy, parts = driven(blocks=4, ends=(5, 9))
    start, stop = toy.calls[-1]
    assert start < 9 <= stop < 47
    records = parts[-1].records()
    assert records["value"].shape == (2, 47)  # what was not run is filled up
    assert np.isfinite(records["value"]).sum(axis=1).tolist() == [5, 9]
    assert (records["count"] >= 0).sum(axis=1).tolist() == [5, 9]
    toy, _ = driven(blocks=4, ends=(5, 1000))  # one run that goes on keeps all going
    assert toy.calls[-1][1] == 47


def test_a_chunk_is_run_only_when_it_is_asked_for():
    toy = Toy(ObservationPlan(1, 1, 4), 47, (1000,))
    next(parts := toy.parts())
    assert toy.calls == [(0, 1)]
    next(parts)
    assert len(toy.calls) == 2


def test_progress_hears_of_every_part():
    toy, parts = driven(blocks=4)
    heard = []
    last = last_of(toy.parts(), 47, lambda *news: heard.append(news))
    assert [news[:2] for news in heard] == [(part.done, 47) for part in parts]
    assert last.done == 47 and heard[-1][2].keys() == {"value", "count"}
    assert last_of(iter(()), 47, None) is None
