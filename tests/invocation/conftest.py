"""Fronts of workers that behave as a test tells them."""

import pytest
from fake_front import FakeFront


@pytest.fixture
def front(log):
    """Starts the front of a worker: `front(behave=..., functions=[...])`; none outlives a test."""
    fronts = []

    def start(functions=("shop.price",), behave=None, on=None):
        made = FakeFront(on or log, functions, behave)
        fronts.append(made)
        return made

    yield start
    for each in fronts:
        each.close()
