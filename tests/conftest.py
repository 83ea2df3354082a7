"""What all tests share: where tests that need a real kernel may run, and a report that survives a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Generator

import pytest

from tests.vm import ground

REPORT = os.environ.get("VTI_UPDOWN_REPORT", "")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", help="run only this part of the tests, as in 2/3")
    parser.addoption(
        "--fork", action="store_true", help="recorded calls by forks of pytest, not as processes of their own"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep every so-manieth test, so that several guests share the work of a long file."""
    number, parts = map(int, config.getoption("--part").split("/"))
    items[:] = items[number - 1 :: parts]


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
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, None, None]:
    """One line per test into the report file that tests/run adds up, written at once."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" or report.outcome != "passed":
        reason = ""
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        _report({"test": item.nodeid, "outcome": report.outcome, "seconds": report.duration, "reason": reason})


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
