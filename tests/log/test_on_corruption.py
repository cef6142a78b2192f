"""Reading where records are damaged: it stops there, or goes on behind it and says so."""

import logging

import pytest

from streamfn import Log
from streamfn.errors import ConfigError, Corruption

HEADER = 4096


@pytest.fixture
def damaged(tmp_path):
    """A log of ten batches of one record, of which the fourth and fifth are damaged."""
    path = tmp_path / "log"
    with Log.open(path) as log:
        stream = log.create_stream("orders", compression="none")
        for number in range(10):
            stream.put(b"%03d" % number + b"x" * 101, "key")
    [segment] = path.rglob("*.seg")
    size = (segment.stat().st_size - HEADER) // 10
    with segment.open("r+b") as file:
        for batch in (3, 4):
            file.seek(HEADER + batch * size + 200)
            file.write(b"rot")
    with Log.open(path) as log:
        yield log.stream("orders")


def numbers(batches):
    return [record.sequence_number for batch in batches for record in batch]


def test_a_reader_stops_at_damage_and_names_the_numbers(damaged):
    """What comes before the damage is read first."""
    batches = damaged.read()

    assert numbers([next(batches)]) == [0, 1, 2]
    with pytest.raises(Corruption) as raised:
        next(batches)
    assert (raised.value.first, raised.value.last) == (3, 4)
    assert raised.value.path.endswith(".seg")


def test_a_reader_that_skips_goes_on_and_says_what_is_lost(damaged, caplog):
    with caplog.at_level(logging.WARNING, "streamfn"):
        assert numbers(damaged.read(on_corruption="skip")) == [0, 1, 2, 5, 6, 7, 8, 9]

    assert "sequence numbers 3 to 4" in caplog.text


def test_what_lies_behind_damage_is_found_by_its_number(damaged):
    assert numbers(damaged.read(7)) == [7, 8, 9]


def test_an_unknown_word_is_refused(damaged):
    with pytest.raises(ConfigError, match="on_corruption"):
        damaged.read(on_corruption="ignore")
