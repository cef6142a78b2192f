"""Tests for `streamfn.worker.child.tail`."""

import pytest

from streamfn.worker.child.tail import TAIL_BYTES, Tail


def tail_of(*texts):
    tail = Tail()
    for text in texts:
        tail.write(text)
    return tail.text()


def test_a_short_text_is_kept_whole():
    assert tail_of() == ""
    assert tail_of("a\n", "", "b") == "a\nb"
    assert tail_of("x" * TAIL_BYTES) == "x" * TAIL_BYTES


@pytest.mark.parametrize("parts", [1, 7])
def test_of_a_longer_one_the_end_is_kept(parts):
    text = "".join(f"{number}\n" for number in range(5_000))
    size = -(-len(text) // parts)

    kept = tail_of(*(text[at : at + size] for at in range(0, len(text), size)))
    assert kept == text[-TAIL_BYTES:]


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_no_character_is_cut_in_two(character):
    for more in range(4):
        text = tail_of(character * TAIL_BYTES + "x" * more)
        assert set(text) <= {character, "x"}
        assert TAIL_BYTES - 4 < len(text.encode()) <= TAIL_BYTES


def test_half_a_surrogate_pair_is_a_question_mark():
    assert tail_of("\ud800") == "?"
