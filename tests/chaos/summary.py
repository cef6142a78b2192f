"""What a run did, on one screen."""

from collections import Counter
from dataclasses import dataclass, field

from evidence import Evidence
from harness import Tally


@dataclass
class Summary:
    """Figures of one run, or of several together."""

    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    reopened: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    logs: int = 0
    seconds: float = 0.0
    violations: int = 0

    def add(self, tally: Tally, evidence: Evidence, violations: int) -> None:
        """Count a run and what was found in it."""
        self.kills += tally.kills
        self.stops += tally.stops
        self.reopened += tally.reopened
        self.changes += evidence.history.changes
        self.records += _records(evidence)
        self.logs += 1
        self.seconds += tally.seconds
        self.violations += violations

    def __str__(self) -> str:
        lines = [
            ("kills (SIGKILL)", self.kills),
            ("stops (SIGSTOP)", self.stops),
            ("log opened again", self.reopened),
            ("changes", self.changes),
        ]
        text = [f"{name:<17}{counts.total():>9,}  {_parts(counts)}" for name, counts in lines]
        text += [f"{name:<17}{self.records[name]:>9,}" for name in RECORDS]
        text.append(f"{'violations':<17}{self.violations:>9,}")
        text.append(f"{self.logs} logs, {self.seconds:,.0f} s")
        return "\n".join(text)


RECORDS = (
    "acknowledged",
    "in doubt",
    "read",
    "delivered",
    "delivered again",
    "dead letters",
    "trimmed",
    "checkpoints seen",
)


def _records(evidence: Evidence) -> Counter[str]:
    history = evidence.history
    deliveries = [(call.function, place) for call in history.calls for place in call.places()]
    delivered = len(set(deliveries))
    return Counter(
        {
            "acknowledged": sum(put.place is not None for put in history.puts),
            "in doubt": sum(put.place is None for put in history.puts),
            "read": sum(step[0] == "record" for each in history.readings for step in each.steps),
            "delivered": delivered,
            "delivered again": len(deliveries) - delivered,
            "dead letters": len(evidence.contents.dead),
            "trimmed": sum(map(evidence.is_trimmed, evidence.seen)),
            "checkpoints seen": sum(len(look.checkpoints) for look in history.looks),
        }
    )


def _parts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
