"""Says what in the history of a run contradicts the promises of the product.

The rules are in `log_rules`, `reader_rules` and `delivery_rules`; each is a function from the
evidence to violations. A rule knows nothing of the engine: it looks at what processes wrote down
and at the log that is left.
"""

from collections.abc import Callable, Iterator

import delivery_rules
import log_rules
import reader_rules
from evidence import Evidence
from violation import Violation

Rule = Callable[[Evidence], Iterator[Violation]]

RULES: tuple[Rule, ...] = (*log_rules.RULES, *reader_rules.RULES, *delivery_rules.RULES)


def check(evidence: Evidence) -> list[Violation]:
    """Everything that is wrong, in the order of the rules."""
    return [violation for rule in RULES for violation in rule(evidence)]
