"""The engine and `naive_matcher` judge random patterns and events alike.

`STREAMFN_FILTER_PAIRS` sets how many pairs are tried (50,000), `STREAMFN_FILTER_SEED` where the
chance begins; a failure prints what it takes to repeat it.
"""

import json
import os
from random import Random

import naive_matcher
import pytest

from streamfn import _core

PAIRS = int(os.environ.get("STREAMFN_FILTER_PAIRS", "50000"))
SEED = int(os.environ.get("STREAMFN_FILTER_SEED", "20130101"))
EVENTS_PER_FILTER = 50

NAMES = ["a", "b", "cc", "d.e", "é"]
EVENT_NAMES = [*NAMES, "a.b", "b.a", "a.b.cc"]
"""Some fields have two spellings in an event, which may stand beside each other."""
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "Ab",
    "abab",
    "b*a",
    "\\",
    'a"b',
    "é",
    "É",
    "10.0.0.7",
    "::1",
    "12",
    "\U0001f600",
]
NUMBERS = [0, -0.0, 1, 1.0, 12, -3.5, 1e20, 300, 2**53, 2**53 + 1, 0.1]
NETWORKS = ["10.0.0.0/8", "10.0.0.7/32", "0.0.0.0/0", "::/16", "::1/128"]
WILDCARDS = ["*", "a*", "*b", "a*b", "*a*b*", "b\\*a", "*\\\\", "", "a*b*a*"]


class Maker:
    """Makes patterns and events that have a fair chance to meet."""

    def __init__(self, random):
        self.random = random
        self.pick = random.choice

    def scalar(self):
        return self.pick([self.pick(TEXTS), self.pick(NUMBERS), None, True, False])

    def event(self, depth=3):
        names = self.random.sample(EVENT_NAMES, self.random.randint(1, 5))
        return {name: self.value(depth - 1) for name in names}

    def value(self, depth):
        roll = self.random.random()
        if depth <= 0 or roll < 0.3:
            return self.scalar()
        if roll < 0.7:
            return self.event(depth)
        return [self.value(depth - 1) for _ in range(self.random.randint(0, 3))]

    def pattern(self, depth=3):
        names = self.random.sample(NAMES, self.pick([1, 1, 2, 3]))
        made = {name: self.constraint(depth - 1) for name in names}
        rest = [name for name in NAMES if name not in names]
        if depth > 1 and self.random.random() < 0.15:
            made["$or"] = [{self.pick(rest): self.constraint(depth - 2)} for _ in range(2)]
        return made

    def constraint(self, depth):
        if depth > 0 and self.random.random() < 0.4:
            return self.pattern(depth)
        return [self.alternative() for _ in range(self.pick([1, 2, 3]))]

    def alternative(self):
        if self.random.random() < 0.3:
            return self.scalar()
        operator = self.pick(sorted(OPERANDS))
        return {operator: OPERANDS[operator](self)}

    def maybe_folded(self):
        text = self.pick(TEXTS)
        return {"equals-ignore-case": text} if self.random.random() < 0.3 else text

    def numeric(self):
        low, high = sorted(self.random.sample(sorted(set(NUMBERS[:7])), 2))
        return self.pick(
            [["=", low], ["<", high], ["<=", high], [">", low], [">=", low], [">", low, "<=", high]]
        )

    def anything_but(self):
        kind = self.pick(["text", "texts", "numbers", "nested"])
        if kind == "nested":
            operator = self.pick(["prefix", "suffix", "equals-ignore-case", "wildcard"])
            texts = WILDCARDS if operator == "wildcard" else TEXTS[1:]
            return {operator: self.pick([self.pick(texts), self.random.sample(texts, 2)])}
        if kind == "text":
            return self.pick(TEXTS)
        return self.random.sample(TEXTS if kind == "texts" else NUMBERS, 2)


OPERANDS = {
    "prefix": Maker.maybe_folded,
    "suffix": Maker.maybe_folded,
    "equals-ignore-case": lambda maker: maker.pick(TEXTS),
    "exactly": lambda maker: maker.pick(TEXTS),
    "wildcard": lambda maker: maker.pick(WILDCARDS),
    "anything-but": Maker.anything_but,
    "numeric": Maker.numeric,
    "exists": lambda maker: maker.pick([True, False]),
    "cidr": lambda maker: maker.pick(NETWORKS),
}


def compare(seed):
    """Try one filter on some events; how many matched."""
    maker = Maker(Random(seed))
    patterns = [maker.pattern() for _ in range(maker.pick([1, 1, 2, 5]))]
    events = [
        json.dumps(maker.event(), ensure_ascii=maker.pick([True, False])).encode()
        for _ in range(EVENTS_PER_FILTER)
    ]
    events[0] = events[0].replace(b":", b"", 1)

    found = _core.Filter([json.dumps(pattern) for pattern in patterns]).matches(events)

    expected = [naive_matcher.matches(patterns, event) for event in events]
    if found != expected:
        wrong = next(i for i, one in enumerate(found) if one != expected[i])
        pytest.fail(
            f"seed {seed}: {json.dumps(patterns)} on {events[wrong].decode()}: "
            f"{found[wrong]}, and the naive matcher says {expected[wrong]}"
        )
    return sum(map(bool, found))


def test_the_engine_agrees_with_the_naive_matcher():
    filters = -(-PAIRS // EVENTS_PER_FILTER)

    matched = sum(compare(SEED + number) for number in range(filters))

    assert 0.05 < matched / (filters * EVENTS_PER_FILTER) < 0.95, f"both answers: {matched} matched"
