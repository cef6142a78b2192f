"""Event patterns matched the slow and obvious way: what the engine is compared with.

An event is flattened into occurrences: a path without array indices, a value, and for each array
on the way which element it lies in. A pattern's constraints are given occurrences one after
another, and all those given must agree on the element of every array they share. A field may count
as missing if no occurrence of it agrees with those given.
"""

import ipaddress
import itertools
import re
from typing import NamedTuple

import orjson


class Occurrence(NamedTuple):
    value: object
    places: dict
    """Which element of each array it lies in."""


def matches(patterns, event):
    """Whether any pattern matches; None if the event is not a JSON object."""
    try:
        event = orjson.loads(event)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    occurrences = {}
    flatten(event, (), {}, occurrences, itertools.count())
    return any(
        holds(list(each.items()), {}, [], occurrences)
        for pattern in patterns
        for each in combinations(pattern, ())
    )


def flatten(value, path, places, into, arrays):
    if isinstance(value, dict):
        for name, inner in value.items():
            flatten(inner, (*path, *name.split(".")), places, into, arrays)
    elif isinstance(value, list):
        array = next(arrays)
        for index, inner in enumerate(value):
            flatten(inner, path, {**places, array: index}, into, arrays)
    else:
        into.setdefault(path, []).append(Occurrence(value, places))


def combinations(pattern, path):
    """The pattern without `$or`: dicts from path to alternatives."""
    found = [{}]
    for name, value in pattern.items():
        if name == "$or" and is_or(value):
            branches = [each for branch in value for each in combinations(branch, path)]
        elif isinstance(value, dict):
            branches = combinations(value, (*path, *name.split(".")))
        else:
            branches = [{(*path, *name.split(".")): value}]
        found = [{**one, **other} for one in found for other in branches]
    return found


OPERATORS = {
    *("prefix", "suffix", "equals-ignore-case", "wildcard", "anything-but", "numeric", "exists"),
    *("cidr", "exactly", "=", "<", "<=", ">", ">="),
}


def is_or(value):
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(isinstance(each, dict) and not OPERATORS & set(each) for each in value)
    )


def agree(one, other):
    return all(other.get(array, index) == index for array, index in one.items())


def holds(left, given, absent, occurrences):
    """Whether the constraints that are left can be given occurrences that agree with `given`."""
    if not left:
        return not any(
            agree(each.places, given) for path in absent for each in occurrences.get(path, [])
        )
    (path, alternatives), *rest = left
    for each in occurrences.get(path, []):
        is_taken = any(takes(one, each.value) for one in alternatives)
        agreed = {**given, **each.places}
        if is_taken and agree(each.places, given) and holds(rest, agreed, absent, occurrences):
            return True
    may_be_absent = {"exists": False} in alternatives
    return may_be_absent and holds(rest, given, [*absent, path], occurrences)


def takes(wanted, value):
    if not isinstance(wanted, dict):
        return same(wanted, value)
    [(operator, operand)] = wanted.items()
    match operator:
        case "exists":
            return operand
        case "exactly":
            return same(operand, value)
        case "anything-but":
            return not any(takes(one, value) for one in but(operand))
        case "numeric":
            return is_number(value) and all(
                COMPARE[sign](value, bound)
                for sign, bound in zip(operand[::2], operand[1::2], strict=True)
            )
    return isinstance(value, str) and takes_text(operator, operand, value)


def takes_text(operator, operand, text):
    if isinstance(operand, dict):
        operand, text = operand["equals-ignore-case"].lower(), text.lower()
    match operator:
        case "prefix":
            return text.startswith(operand)
        case "suffix":
            return text.endswith(operand)
        case "equals-ignore-case":
            return text.lower() == operand.lower()
        case "wildcard":
            parts = re.split(r"(\\.|\*)", operand)
            return bool(re.fullmatch("".join(map(translate, parts)), text, re.DOTALL))
        case "cidr":
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                return False
            return address in ipaddress.ip_network(operand, strict=False)
    raise AssertionError(operator)


def translate(part):
    return ".*" if part == "*" else re.escape(part.removeprefix("\\"))


def but(operand):
    if isinstance(operand, dict):
        [(operator, values)] = operand.items()
        return [{operator: one} for one in (values if isinstance(values, list) else [values])]
    return operand if isinstance(operand, list) else [operand]


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(wanted, value):
    if is_number(wanted) and is_number(value):
        return float(wanted) == float(value)
    return type(wanted) is type(value) and wanted == value


COMPARE = {
    "=": lambda value, bound: float(value) == float(bound),
    "<": lambda value, bound: float(value) < float(bound),
    "<=": lambda value, bound: float(value) <= float(bound),
    ">": lambda value, bound: float(value) > float(bound),
    ">=": lambda value, bound: float(value) >= float(bound),
}
