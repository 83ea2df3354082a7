"""What a job's tests came to, read from the lines tests/conftest.py wrote, and the tables at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm.releases import Exclusion

WORDS = ("passed", "failed", "skipped")
LEFT = "left"  # to --full
NO_TESTS = 5  # pytest's exit status


@dataclass
class Result:
    """One job: its outcomes by test, and how long it took."""

    layer: str
    name: str
    release: str = ""
    seconds: float = 0.0
    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    """Seconds of each test, with its fixtures."""

    @property
    def ran(self) -> bool:
        """Whether there was any test, skipped ones too."""
        return any(outcome != LEFT for outcome in self.outcomes.values())

    def count(self, outcome: str) -> int:
        return list(self.outcomes.values()).count(outcome)

    def note(self, test: str, outcome: str, reason: str = "") -> None:
        if self.outcomes.get(test) != "failed":
            self.outcomes[test] = outcome
            self.reasons[test] = reason

    def read(self, path: Path, status: int) -> None:
        """Take in a report; a test that began and did not end has failed, as has a job nobody knows the reason of."""
        text = path.read_text() if path.exists() else ""
        for line in map(json.loads, filter(None, text.split("\n"))):
            if "seconds" in line:
                self.took[line["test"]] = self.took.get(line["test"], 0.0) + line["seconds"]
            elif line["outcome"] == "started":
                self.outcomes.setdefault(line["test"], "started")
            else:
                self.note(line["test"], line["outcome"], line.get("reason", ""))
        for test in [test for test, outcome in self.outcomes.items() if outcome == "started"]:
            self.note(test, "failed", f"did not end (status {status})")
        if status not in (0, NO_TESTS) and not self.count("failed"):
            self.note(self.name, "failed", f"ended with status {status}")


def by_file(shared: Sequence[Result], expected: Mapping[str, Sequence[str]]) -> list[Result]:
    """The results of jobs that shared the tests of several files, a file each; a test that none of them had has failed."""
    found = []
    for path, tests in expected.items():
        layer, name = path.split("/")[-2:]
        one = Result(layer, name.partition(".")[0], shared[0].release)
        for result in shared:
            for test in [test for test in result.outcomes if test.partition("::")[0] == path]:
                one.note(test, result.outcomes.pop(test), result.reasons.get(test, ""))
                one.seconds += result.took.get(test, 0.0)
        for test in tests:
            if test not in one.outcomes:
                one.note(test, "failed", "was not run")
        found.append(one)
    return found


def summary(results: Sequence[Result], total_seconds: float, excluded: Mapping[str, Sequence[Exclusion]]) -> str:
    """The closing text: where the time went, what failed, every skipped test, what of the tests a release has not the
    feature for, and the total on the last line."""
    lines = ["", "where the time went"]
    width = max([len(result.release) for result in results], default=0)
    for layer, release in dict.fromkeys((result.layer, result.release) for result in results):
        for result in [one for one in results if (one.layer, one.release) == (layer, release)]:
            counted = ", ".join(f"{result.count(word)} {word}" for word in WORDS) if result.ran else ""
            lines.append(f"  {layer:8} {release:{width}} {result.seconds:7.1f} s  {counted:38} {result.name}")
    lines.append(f"  {'all':8} {'':{width}} {total_seconds:7.1f} s")
    for word in ("failed", "skipped"):
        lines += ["", f"{word}:" if _tests(results, word) else f"{word}: none"]
        lines += [f"  {line}" for line in _tests(results, word)]
    for release, rows in excluded.items():
        lines += ["", f"not for {release} (tests/vm/releases.py):"] if rows else []
        lines += [f"  {row.tests}: {row.reason}" for row in rows]
    left = {(result.layer, test) for result in results for test, its in result.outcomes.items() if its == LEFT}
    lines += [f"left to tests/run --full, which takes hours: {len(left)} longer variants"] if left else []
    totals = {word: sum(result.count(word) for result in results) for word in WORDS}
    return "\n".join([*lines, "", ", ".join(f"{number} {word}" for word, number in totals.items())])


def _tests(results: Sequence[Result], outcome: str) -> list[str]:
    found = []
    for result in results:
        for test, its in result.outcomes.items():
            if its == outcome:
                reason = result.reasons.get(test, "")
                found.append(f"{result.layer} {result.release} ({result.name}): {test}{': ' if reason else ''}{reason}")
    return found
