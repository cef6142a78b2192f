"""The comparison as files: `benches/results/bench.json`, `.png` and `.svg`; by command."""

import json
import statistics
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peers import LIMIT
from report import Rates, Ways, absences, gain, shortening, surroundings, took_turns
from scenario import Size
from targets import TITLES, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER: Final = Path(__file__).parents[1] / "results"
COLOURS: Final = {
    "streamfn": "#c1272d",
    "streamfn zstd": "#e8a0a2",
    "SQLite": "#0f7f9c",
    "LMDB": "#3b6e22",
    "NATS JetStream": "#6a51a3",
    "Redis Streams": "#b8860b",
    "Apache Kafka": "#4d4d4d",
    "bytewax": "#e07b39",
    "FastStream": "#3aa6b9",
    LIMIT: "#333333",
}


def write(rates: Rates, ways: Ways, targets: Sequence[Target], size: Size) -> Iterator[str]:
    """Write the files, over those of an earlier run; say what was written."""
    FOLDER.mkdir(exist_ok=True)
    base = FOLDER / size.command.removeprefix("make ")
    # WHY once, and first: with the first file that is written anew the commit is a "-dirty" one.
    around = list(surroundings(size))
    found = document(rates, ways, targets, size, around)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    base.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    yield f"Written: {base.with_suffix('.json')}"
    if find_spec("matplotlib") is None:
        yield "No picture: the package matplotlib is not installed."
        return
    for path in draw(base, rates, ways, around):
        yield f"Written: {path}"


def document(
    rates: Rates, ways: Ways, targets: Sequence[Target], size: Size, around: Sequence[str]
) -> dict[str, Any]:
    """All figures of all rounds; rates in records a second, times in seconds."""
    return {
        "command": size.command,
        "surroundings": list(around),
        "rates": {
            scenario: {
                "records a second": by_system,
                "streamfn ÷ peer": {
                    name: gain(by_system, name) for name in by_system if name != "streamfn"
                },
            }
            for scenario, by_system in rates.items()
        },
        "ways": {
            scenario: {
                "seconds": {
                    name: {
                        "p50": [way.times.median for way in found],
                        "p99": [way.times.p99 for way in found],
                        "records a second": [way.rate for way in found],
                    }
                    for name, found in by_system.items()
                },
                "peer ÷ streamfn, p50": {
                    name: shortening(by_system, name) for name in by_system if name != "streamfn"
                },
            }
            for scenario, by_system in ways.items()
        },
        "targets": [
            dict(zip(TITLES, target.cells(), strict=True)) | {"ratios": list(target.ratios)}
            for target in targets
        ],
        "not measured": absences(size),
    }


def draw(base: Path, rates: Rates, ways: Ways, around: Sequence[str]) -> Iterator[Path]:
    """A line for each scenario and a mark for each system: its median; scales are logarithmic."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    heights = [max(1, len(rates)), max(1, 2 * len(ways))]  # lines of a way stand side by side
    figure = Figure(figsize=(10, 2.4 + 0.34 * sum(heights)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[1 + height for height in heights])
    _marks(above, {
        scenario: {name: (statistics.median(found), None) for name, found in by_system.items()}
        for scenario, by_system in rates.items()
    })  # fmt: skip
    above.set_xlabel("records a second: more is better")
    _marks(below, {
        scenario: {
            name: (
                statistics.median([way.times.median * 1e6 for way in found]),
                statistics.median([way.times.p99 * 1e6 for way in found]),
            )
            for name, found in by_system.items()
        }
        for scenario, by_system in ways.items()
    })  # fmt: skip
    below.set_xlabel("µs from p50 (mark) to p99 (end of the line): less is better")
    names = took_turns(rates) or took_turns(ways)
    handles = [
        above.plot([], [], _mark(name), color=COLOURS[name], label=name, markersize=7)[0]
        for name in names
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(5, len(names)), frameon=False
    )
    said = " ".join(around[:2])
    figure.supxlabel(said, x=0.01, ha="left", fontsize=7, color="#666666")
    with rc_context({"svg.hashsalt": "streamfn"}):
        for path in (base.with_suffix(".png"), base.with_suffix(".svg")):
            figure.savefig(path, dpi=130)
            yield path


def _mark(name: str) -> str:
    """A line where the limit is, for a dot would hide who reaches it."""
    return "|" if name == LIMIT else "o"


def _marks(axes: "Axes", found: dict[str, dict[str, tuple[float, float | None]]]) -> None:
    for line, by_system in enumerate(found.values()):
        for place, (name, (value, tail)) in enumerate(by_system.items()):
            at = float(line)
            if tail is not None:  # lines would hide each other
                at += 0.8 * ((place + 0.5) / len(by_system) - 0.5)
                axes.plot([value, tail], [at, at], "-", color=COLOURS[name], linewidth=1.5)
            axes.plot([value], [at], _mark(name), color=COLOURS[name], markersize=7)
    axes.set_xscale("log")
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=True, axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
