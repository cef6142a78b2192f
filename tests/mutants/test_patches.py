"""The seeded bugs still fit the tree; whether tests catch them says `make mutants`."""

from __future__ import annotations

import re

import pytest
from run_mutants import ROOT, Mutant, apply, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_patch_applies(mutant: Mutant) -> None:
    """The code that it was made for has not changed under it."""
    assert apply(ROOT, mutant, "--check"), f"make {mutant.path.name} anew for the changed code"


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_the_tests_that_catch_it_are_there(mutant: Mutant) -> None:
    """Each is a Rust test of the file that it is said to be in."""
    for test in mutant.caught_by:
        file, name = test.split("::")
        assert re.search(rf"fn {name}\b", (ROOT / file).read_text()), test


def test_there_are_enough() -> None:
    """A folder that was emptied is no success."""
    assert len(mutants()) >= 50
