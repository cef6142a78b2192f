"""Lanes are never brought to a panic by what a runner, or a supervisor, tells them."""

from random import Random

import pytest
from odd_arguments import INTS, MOST, attempt

from streamfn._core import Board, Entry, Filter, LaneSet, Log, Mapping


class Lanes:
    """Lanes of one mapping in the hands of two runners, told things that are near right."""

    def __init__(self, random):
        self.random = random
        self.pick = random.choice
        self.clock = self.pick([0, 10**15, MOST - 10, 2**63])
        self.log = Log.in_memory(self.clock)
        self.stream = self.log.create_stream("s", shards=self.pick([1, 2]))
        self.windowed = random.random() < 0.4
        self.factor = 1 if self.windowed else self.pick([1, 2, 5])
        self.mapping = Mapping.register(
            self.log, "app.fn", factor=self.factor, windowed=self.windowed
        )
        self.mapping.prepare("s")
        self.sets = [
            LaneSet(self.log, worker=str(n) * 32, runner=n, budget_bytes=self.pick([0, 100, 2**26]))
            for n in (1, 2)
        ]
        self.board = Board.create()
        self.filter = self.pick([None, Filter(['{"a":[1]}'])])
        self.works = {}
        self.lane = 0
        self.numbers = [0]

    def near(self):
        step = self.pick([-2, -1, 0, 0, 1, 2, 5, self.pick(INTS) % 2**64])
        return max(0, min(MOST, self.pick(self.numbers) + step))

    def entries(self):
        work = self.pick(list(self.works.values())) if self.works else None
        if work is None or not len(work.records):
            return [Entry(*sorted((self.near(), self.near()))) for _ in range(3)]
        if self.random.random() < 0.4:
            return work.entries
        numbers = work.records.sequence_numbers()
        made = []
        for _ in range(self.random.randrange(1, 25)):
            first, last = sorted((self.pick(numbers), self.pick(numbers)))
            attempts = self.pick([0, 1, 2**32 - 1])
            joined = self.pick([True, False])
            made.append(Entry(first, last, attempts, joined, self.pick([0, 1, 2])))
        return sorted(made, key=lambda entry: entry.first) if self.pick([True, False]) else made

    def put(self):
        data = [
            self.pick([b'{"a":1}', b"x", b"y" * 3000]) for _ in range(self.random.randrange(1, 30))
        ]
        found = attempt(self.stream.put_many, data)
        if found:
            self.numbers.append(found[len(found) - 1][1])

    def tell_time(self):
        self.clock = min(MOST, self.clock + self.pick([0, 1, 10**6, 2**40, MOST]))
        attempt(self.log.set_time, self.pick([self.clock, self.pick(INTS) % 2**64]))

    def add(self):
        self.lane += 1
        attempt(
            self.pick(self.sets).add,
            self.lane,
            self.mapping,
            "s",
            self.pick(["0", "1"]),
            self.random.randrange(self.factor + 1),
            batch_size=self.pick([1, 3, 100]),
            batch_window=self.pick([0, 0, 1e308]),
            batch_bytes=self.pick([1, 1000, 2**26]),
            filter=self.filter,
            board=self.board,
            tumbling_window=self.pick([1e-6, 1.0, 1e12, 1e308, 0.0, float("nan")])
            if self.windowed
            else None,
            alone=self.random.random() < 0.2,
            exclusive=self.random.random() < 0.2,
        )

    def next(self):
        lanes = self.pick(self.sets)
        work = attempt(lanes.next, 0.0)
        if work is not None:
            self.works[lanes, work.lane] = work
            self.numbers = [*self.numbers[-5:], work.end]

    def go_on(self):
        if not self.works:
            return
        lanes, lane = key = self.pick(list(self.works))
        exponent = self.pick([0, 2**32 - 1])
        seconds = self.pick([0.0, -1.0, 1e308, float("nan"), 0.001])
        step = self.random.randrange(6)
        if step == 0:
            attempt(lanes.hold, lane, self.entries(), exponent)
        elif step == 1:
            kind, data = self.pick([0, 1, 2, 3]), self.pick([b"", b"x" * 100_000, b"1"])
            attempt(lanes.keep_state, lane, kind, data, ended_early=self.pick([True, False]))
        elif step == 2:
            attempt(lanes.set_calling, lane, is_calling=self.pick([True, False]))
        else:
            del self.works[key]
            [
                lambda: attempt(lanes.wait, lane, self.entries(), exponent, seconds),
                lambda: attempt(lanes.settle, lane, exponent),
                lambda: attempt(lanes.yield_, lane, self.entries(), exponent),
            ][step - 3]()

    def judge(self):
        slot = self.random.randrange(self.factor + 1)
        judge = attempt(self.mapping.judge, "s", self.pick(["0", "1"]), slot, self.filter)
        if judge is None:
            return
        attempt(judge.in_flight)
        attempt(judge.records, self.near(), self.near())
        attempt(judge.records, 0, MOST)
        attempt(
            judge.write,
            self.entries(),
            worker="3" * 32,
            is_calling=self.pick([True, False]),
            worker_deaths=self.pick([0, 1, 2**32 - 1]),
            is_alone=self.pick([True, False]),
            is_exclusive=self.pick([True, False]),
        )
        attempt(judge.release)

    def move(self):
        shard = self.pick(["0", "1", "2"])
        step = self.random.randrange(6)
        if step == 0:
            place = self.pick(["latest", "trim_horizon", self.near(), MOST])
            attempt(self.mapping.seek, "s", place, timeout=0.0)
        elif step == 1:
            attempt(self.stream.split, shard, self.pick([None, 2**127]), 0.0)
            attempt(self.mapping.prepare, "s")
        elif step == 2:
            attempt(self.stream.trim, shard, self.pick([self.near(), MOST]), 0.0)
        elif step == 3:
            factor, windowed = self.pick([0, 1, 2, 3, 256, 257]), self.pick([True, False])
            attempt(self.mapping.set_wanted, factor=factor, windowed=windowed)
        elif step == 4:
            stretches = {"0": (self.near(), self.near()), "1": (self.near(), self.near())}
            replay = attempt(self.mapping.replay, "s", stretches, timeout=0.0)
            if replay is not None:
                attempt(replay.lanes)
                attempt(replay.finish_replay)
        else:
            attempt(self.mapping.lanes, "s")
            attempt(self.pick(self.sets).set_burst, self.pick([True, False]))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_lanes_are_told_they_do_not_panic(seed):
    """300 steps of a runner that errs: entries of other batches, odd numbers and clocks."""
    lanes = Lanes(Random(seed))
    steps = [lanes.put, lanes.tell_time, lanes.add, lanes.next, lanes.go_on, lanes.judge]
    for _ in range(300):
        lanes.random.choices([*steps, lanes.move], [3, 1, 2, 4, 4, 1, 1])[0]()
