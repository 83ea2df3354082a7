"""The releases of Debian that the tests run on, and what of the tests a release has not what it takes for."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAID = "VTI_UPDOWN_RELEASE"
"""The variable by which tests/run tells pytest the release that it runs on."""


@dataclass(frozen=True)
class Release:
    name: str
    """The archive's, and --release's."""
    codenames: tuple[str, ...]
    """What os-release may call it."""
    always: bool = True
    """In each run; else in the full one alone."""


RELEASES = (
    Release("bookworm", ("bookworm",)),
    Release("trixie", ("trixie",)),
    Release("sid", ("sid", "forky"), always=False),  # it has the name of the testing release
)


@dataclass(frozen=True)
class Exclusion:
    """Tests that a release has not the feature for."""

    tests: str
    """How their ids begin, below tests/: a file or FILE::TEST."""
    releases: Sequence[str]
    reason: str
    """The feature that is not there, as the summary of a run shows it."""


EXCLUSIONS: Sequence[Exclusion] = (
    Exclusion("daemon/test_selectors.py", ("bookworm",), "libreswan 4.10 has one pair of selectors in a child SA"),
    Exclusion(
        "daemon/test_ipsec_interface.py::test_with_an_address_of_its_own_and_a_metric",
        ("bookworm",),
        "libreswan 4.10 has no interface-ip=",
    ),
    Exclusion(
        "daemon/test_ipsec_interface.py::test_a_device_that_pluto_does_not_manage_is_used_and_stays",
        ("bookworm",),
        "libreswan 4.10 has no ipsec-interface-managed=",
    ),
    Exclusion(
        "daemon/test_mobike.py::test_a_move_that_is_never_finished_lets_nothing_out_and_ends_by_reconcile",
        ("bookworm",),
        "libreswan 4.10 finishes its moves",
    ),
    Exclusion(
        "daemon/test_mobike.py::test_the_device_follows_and_traffic_goes_on",
        ("trixie", "sid"),
        "libreswan 5.2 cannot finish a move: IKE goes on from the address that is gone",
    ),
)
"""The only place that keeps a test from a release."""


def named(name: str) -> Release:
    """One of the known."""
    (found,) = [release for release in known() if release.name == name]
    return found


def known() -> list[Release]:
    """This machine's own, whatever it is, and the list's."""
    return [own(), *(release for release in RELEASES if release.name != own().name)]


def of(os_release: str) -> Release:
    """The release whose /etc/os-release this is; one that is not in the list has a name of its own."""
    said = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    values = {name: value.strip().strip("\"'") for name, value in said.items()}
    codename = values.get("VERSION_CODENAME", "")
    if values.get("ID") == "debian":
        for release in RELEASES:
            if codename in release.codenames:
                return release
    other = codename or values.get("ID", "unknown")
    return Release(other, (other,), always=False)


@functools.cache
def own() -> Release:
    """This machine's."""
    place = Path("/etc/os-release")
    return of(place.read_text() if place.exists() else "")


def running() -> Release:
    """The one whose daemons, Python and iproute2 these tests use: as tests/run said, else this machine's."""
    said = os.environ.get(SAID)
    return named(said) if said else own()


def exclusions(release: str, table: Sequence[Exclusion] | None = None) -> list[Exclusion]:
    """The rows of a release."""
    return [row for row in (EXCLUSIONS if table is None else table) if release in row.releases]


def excluded(test: str, release: str, table: Sequence[Exclusion] | None = None) -> str:
    """Why a test, by its id, is not for a release; empty where it is."""
    for row in exclusions(release, table):
        if _begins(test, f"tests/{row.tests}"):
            return row.reason
    return ""


def _begins(test: str, start: str) -> bool:
    """At a whole name: test_up is not test_up_again, but test_up[v6] is test_up."""
    return test.startswith(start) and test[len(start) :][:1] in ("", ":", "[")
