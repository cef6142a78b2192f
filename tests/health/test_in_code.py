"""Tests for `streamfn.health.in_code`."""

from streamfn.health.in_code import not_in_code

RECORDED = ["others.f", "shop.new", "shop.old", "shop.old@replay-1"]


def test_functions_of_the_app_that_it_does_not_have():
    assert not_in_code(RECORDED, {"shop.new"}) == ["shop.old"]


def test_an_app_says_nothing_about_others():
    assert not_in_code(RECORDED, {"more.f"}) == []
    assert not_in_code(RECORDED, set()) == []
