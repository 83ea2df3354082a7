"""Which release a machine is, and what of the tests is not for one."""

from __future__ import annotations

import re

import pytest

from tests import TOP
from tests.daemon import words
from tests.vm import releases
from tests.vm.releases import EXCLUSIONS, Exclusion

TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian\n'
SID = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n'
TABLE = [
    Exclusion("daemon/test_mobike.py", ["trixie"], "moves nothing"),
    Exclusion("daemon/test_mtu.py::test_up", ["trixie", "sid"], "has no such option"),
]


@pytest.mark.parametrize(
    ("os_release", "name"),
    [
        (TRIXIE, "trixie"),
        (TRIXIE.replace("=trixie", '="bookworm"'), "bookworm"),
        (SID, "sid"),
        ("VERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n", "noble"),
        ("VERSION_CODENAME=trixie\nID=other\n", "trixie"),
        ("ID=other\n", "other"),
        ("", "unknown"),
    ],
)
def test_a_machine_is_the_release_that_os_release_says(os_release: str, name: str) -> None:
    assert releases.of(os_release).name == name


def test_only_debian_is_a_release_of_debian() -> None:
    assert releases.of(TRIXIE) in releases.RELEASES
    assert releases.of("VERSION_CODENAME=trixie\nID=other\n") not in releases.RELEASES


def test_pytest_believes_the_run_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(releases.SAID, "sid")
    assert releases.running().name == "sid"
    monkeypatch.delenv(releases.SAID)
    assert releases.running() == releases.own()


@pytest.mark.parametrize(
    ("test", "release", "reason"),
    [
        ("tests/daemon/test_mobike.py::test_moves", "trixie", "moves nothing"),
        ("tests/daemon/test_mobike.py::test_moves", "sid", ""),
        ("tests/daemon/test_mobike.py::test_moves", "bookworm", ""),
        ("tests/daemon/test_mtu.py::test_up", "sid", "has no such option"),
        ("tests/daemon/test_mtu.py::test_up[v6]", "sid", "has no such option"),
        ("tests/daemon/test_mtu.py::test_up_again", "sid", ""),
        ("tests/daemon/test_mtu.py::test_down", "sid", ""),
        ("tests/kernel/test_mtu.py::test_up", "sid", ""),
    ],
)
def test_a_test_is_left_out_by_its_row(test: str, release: str, reason: str) -> None:
    assert releases.excluded(test, release, TABLE) == reason


def test_each_row_says_why_and_names_releases_and_tests_that_there_are() -> None:
    for row in EXCLUSIONS:
        path, _, name = row.tests.partition("::")
        text = (TOP / "tests" / path).read_text()
        assert not name or re.search(rf"^def {re.escape(name.partition('[')[0])}\(", text, re.MULTILINE), row
        assert set(row.releases) <= {release.name for release in releases.RELEASES} and row.releases, row
        assert len(row.reason.split()) > 2, row


@pytest.mark.parametrize(
    ("version", "order", "child"),
    [
        ("Libreswan 4.10", ["auto", "--asynchronous", "--up", "t"], "--rekey-ipsec"),
        ("Linux Libreswan v4.3 (XFRM) on 5.10", ["auto", "--asynchronous", "--up", "t"], "--rekey-ipsec"),
        ("Libreswan 5.2", ["up", "--asynchronous", "t"], "--rekey-child"),
        ("Libreswan 10.0", ["up", "--asynchronous", "t"], "--rekey-child"),
    ],
)
def test_the_words_are_those_of_the_libreswan_that_is_there(version: str, order: list[str], child: str) -> None:
    assert words.of(version).order("up", "t", "--asynchronous") == order
    assert words.of(version).rekey_child == child
