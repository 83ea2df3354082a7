"""What all tests share: a machine, where tests that need a real kernel may run, and a report that survives a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.kit import own_places
from tests.kit.machine import Machine
from tests.vm import ground, releases

REPORT = os.environ.get("VTI_UPDOWN_REPORT", "")
PIECE = 4  # tests of a file that go together where their fixtures cost little


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with eth0, a default route and nothing of ours."""
    return Machine(tmp_path, monkeypatch)


def pytest_configure() -> None:
    """Tests are the same where the program is in use."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker is where its master is
        try:
            own_places.hide()
        except OSError as error:
            pytest.exit(f"vti-updown is in use here ({', '.join(own_places.PLACES)}), which tests would see: {error}", 3)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--among", metavar="FOLDER", help="run what no other pytest with this FOLDER has taken, a file or a piece of one"
    )
    parser.addoption("--fork", action="store_true", help="recorded calls by forks of pytest, not as processes of their own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the release has not the feature for: tests/run says it at the end, by the same table."""
    release = releases.running().name
    items[:] = [item for item in items if not releases.excluded(item.nodeid, release)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Share the work with others: several guests are at it until all is taken."""
    folder = session.config.getoption("--among")
    if not folder or session.config.option.collectonly or session.testsfailed:
        return None
    ours = taken(session.items, Path(folder))
    item = next(ours, None)
    while item:
        following = next(ours, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def taken(items: Sequence[pytest.Item], folder: Path) -> Iterator[pytest.Item]:
    """The tests of each piece that we are the first to take, which a folder says."""
    for path, tests in groupby(items, key=lambda item: item.path):
        for number, item in enumerate(tests):
            together = any(item.iter_markers("daemon"))
            if number == 0 or (number % PIECE == 0 and not together):
                try:
                    (folder / f"{path.parent.name}-{path.stem}-{number}").mkdir()
                    ours = True
                except FileExistsError:
                    ours = False
            if ours:
                yield item


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a real kernel are skipped where there is none, but never in CI."""
    if not any(item.iter_markers("kernel")) and not any(item.iter_markers("daemon")):
        return
    if ground.missing():
        reason = f"{ground.missing()}; `tests/run` has a virtual machine for it"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def pytest_runtest_logstart(nodeid: str) -> None:
    _report({"test": nodeid, "outcome": "started"})


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """One line per test into the report file that tests/run adds up, written at once."""
    outcome = yield
    report = outcome.get_result()
    _report({"test": item.nodeid, "outcome": "", "seconds": report.duration})
    if report.when == "call" or report.outcome != "passed":
        reason = ""
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        _report({"test": item.nodeid, "outcome": report.outcome, "reason": reason})


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if any(item.iter_markers("slow")):
            _report({"test": item.nodeid, "outcome": "left"})


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _report({"test": report.nodeid, "outcome": "failed", "reason": "cannot be collected"})
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _report({"test": report.nodeid, "outcome": "skipped", "reason": reason})


def _report(line: dict[str, object]) -> None:
    if REPORT:
        with open(REPORT, "a") as handle:
            handle.write(json.dumps(line) + "\n")
