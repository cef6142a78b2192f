"""Options of the benches, and the order in which the systems take turns."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import pytest
from peers import absence
from report import FilterRates, Rates, Ways, figure_table, filter_table, lines, surroundings, whole
from results import write
from scenario import EVERY_PEER, FULL, QUICK, SMALL, Case, Size, cases
from storage import Figure
from targets import Target, of_table, of_ways, target_table

SIZE = pytest.StashKey[Size]()
RATES = pytest.StashKey[Rates]()
WAYS = pytest.StashKey[Ways]()
FIGURES = pytest.StashKey[list[Figure]]()
LANE_FIGURES = pytest.StashKey[list[Figure]]()
REQUEST_FIGURES = pytest.StashKey[list[Figure]]()
TARGETS = pytest.StashKey[list[Target]]()
REQUEST_TARGETS = pytest.StashKey[list[Target]]()
FILTER_RATES = pytest.StashKey[FilterRates]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the sizes; without one of them the benches only prove that they work."""
    parser.addoption("--full", action="store_true", help="measure, and print the tables")
    parser.addoption("--quick", action="store_true", help="the same, smaller and sooner")
    parser.addoption("--every-peer", action="store_true", help="the same, larger, with all peers")


def pytest_configure(config: pytest.Config) -> None:
    """Settle how much is measured."""
    sizes = {"--every-peer": EVERY_PEER, "--full": FULL, "--quick": QUICK}
    asked = [size for option, size in sizes.items() if config.getoption(option, default=False)]
    config.stash[SIZE] = [*asked, SMALL][0]
    rates: Rates = defaultdict(lambda: defaultdict(list))
    config.stash[RATES] = rates
    ways: Ways = defaultdict(lambda: defaultdict(list))
    config.stash[WAYS] = ways
    config.stash[FIGURES] = []
    config.stash[LANE_FIGURES] = []
    config.stash[REQUEST_FIGURES] = []
    config.stash[TARGETS] = []
    config.stash[REQUEST_TARGETS] = []
    filter_rates: FilterRates = defaultdict(lambda: defaultdict(list))
    config.stash[FILTER_RATES] = filter_rates


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its cases, one after another."""
    for marker in metafunc.definition.iter_markers("jobs"):
        size = metafunc.config.stash[SIZE]
        turns = [
            pytest.param(case, id=str(case), marks=_marks(case))
            for case in cases(marker.args, size)
        ]
        metafunc.parametrize("case", turns)


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    """A skip, with the reason, if the case's system is not to be had here."""
    reason = absence(case.system)
    return [pytest.mark.skip(reason=f"{case.system}: {reason}")] if reason else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables after a full run."""
    if terminalreporter.config.stash[SIZE] is SMALL:
        return
    for table in _tables(terminalreporter.config.stash):
        terminalreporter.write_line("")
        for line in table:
            terminalreporter.write_line(line)


def _tables(stash: pytest.Stash) -> Iterator[Iterable[str]]:
    """All for which something was measured."""
    tables = ("storage", FIGURES), ("lanes", LANE_FIGURES), ("calls by request", REQUEST_FIGURES)
    for title, key in tables:
        if stash[key]:
            yield figure_table(title, stash[key], os.getloadavg())
    requests: list[Target] = stash[REQUEST_TARGETS]
    if requests:
        yield target_table(requests)
    if stash[FILTER_RATES]:
        yield filter_table(stash[FILTER_RATES])
    rates, ways = whole(stash[RATES]), whole(stash[WAYS])
    if rates or ways:
        yield lines(rates, ways, stash[SIZE])
    targets = [*of_table(rates), *of_ways(ways), *stash[TARGETS]]
    if targets:
        yield target_table(targets)
    if rates or ways:
        yield write(rates, ways, [*targets, *requests], stash[SIZE])
    elif requests:
        yield surroundings(stash[SIZE])


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    """How much is measured."""
    return pytestconfig.stash[SIZE]


@pytest.fixture(scope="session")
def rates(pytestconfig: pytest.Config) -> Rates:
    """Where results are noted."""
    return pytestconfig.stash[RATES]


@pytest.fixture(scope="session")
def ways(pytestconfig: pytest.Config) -> Ways:
    """Where the ways of records are noted."""
    return pytestconfig.stash[WAYS]


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[Figure]:
    """Where the figures of the storage engine are noted."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def lane_figures(pytestconfig: pytest.Config) -> list[Figure]:
    """Where the figures of lanes are noted."""
    return pytestconfig.stash[LANE_FIGURES]


@pytest.fixture(scope="session")
def request_figures(pytestconfig: pytest.Config) -> list[Figure]:
    """Where the figures of calls by request are noted."""
    return pytestconfig.stash[REQUEST_FIGURES]


@pytest.fixture(scope="session")
def request_targets(pytestconfig: pytest.Config) -> list[Target]:
    """Where ratios of calls by request to their peers are noted."""
    return pytestconfig.stash[REQUEST_TARGETS]


@pytest.fixture(scope="session")
def targets(pytestconfig: pytest.Config) -> list[Target]:
    """Where ratios to peers and limits are noted."""
    return pytestconfig.stash[TARGETS]


@pytest.fixture(scope="session")
def filter_rates(pytestconfig: pytest.Config) -> FilterRates:
    """Where results of filters are noted."""
    return pytestconfig.stash[FILTER_RATES]


@pytest.fixture(scope="session")
def timed() -> Callable[[Callable[[], None]], float]:
    """Runs something and returns how many seconds of this process it took."""

    def timed(run: Callable[[], None]) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return timed
