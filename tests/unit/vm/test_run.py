"""What tests/run runs where, what it says at the end, and how long it waits for a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm import files, ground, guest, places, releases, roots, speed
from tests.vm.files import Chosen
from tests.vm.jobs import Job
from tests.vm.places import Place
from tests.vm.releases import Exclusion, Release
from tests.vm.report import Result, by_file, summary
from tests.vm.roots import Root

OWN = Root(Release("bookworm", ("bookworm",)), Path("/"))
TRIXIE = Root(Release("trixie", ("trixie",)), Path("/made/trixie"))


@pytest.mark.parametrize(
    ("names", "short", "chosen"),
    [
        ([], "daemon/shared", True),
        (["daemon/shared"], "daemon/shared", True),
        (["daemon/shared"], "daemon/shared_more", False),
        (["daemon/shared"], "kernel/shared", False),
        (["kernel/*"], "kernel/placement", True),
        (["unit/plan/routes"], "unit/plan/routes", True),
        (["unit/routes"], "unit/plan/routes", True),
        (["unit/plan/*"], "unit/plan/routes", True),
        (["unit/plan/*"], "unit/model/routes", False),
    ],
)
def test_a_file_is_chosen_by_its_short_name(names: list[str], short: str, chosen: bool) -> None:
    assert Chosen(names).has(short) == chosen


def test_one_file_of_the_layer_unit_is_found_in_its_folder() -> None:
    assert Chosen(["unit/structure", "daemon/shared"]).units() == ["tests/unit/test_structure.py"]
    assert Chosen(["unit/vm/run"]).units() == ["tests/unit/vm/test_run.py"]
    assert Chosen(["unit/sequences"]).units() == ["tests/property/test_sequences.py"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], []),
        (["daemon", "lint"], []),
        (["daemon/shared", "lint"], ["daemon/shared"]),
        (["kernel", "daemon/shared"], ["kernel/*", "daemon/shared"]),
    ],
)
def test_a_layer_beside_files_is_all_its_files(words: list[str], names: list[str]) -> None:
    assert files.asked(words) == Chosen(names)


def test_a_name_that_no_file_has_is_told() -> None:
    asked = ["daemon/shared", "daemon/shred", "unit/plan/nothing", "kernel/*", "bench/updown"]
    assert Chosen(asked).unknown == ["daemon/shred", "unit/plan/nothing", "bench/updown"]
    assert files.short_name("tests/daemon/test_shared.py") == "daemon/shared"


@pytest.mark.parametrize(
    ("root", "kernel", "names", "runs"),
    [
        (OWN, None, [], {"daemon/mtu", "kernel/recordings", "kernel/placement"}),
        (TRIXIE, None, [], {"daemon/mtu", "daemon/demonstration", "kernel/recordings"}),
        (OWN, TRIXIE, [], {"daemon/mtu", "kernel/recordings"}),
        (TRIXIE, OWN, [], {"daemon/mtu", "kernel/recordings"}),
        (TRIXIE, None, ["kernel/placement"], {"kernel/placement"}),
    ],
)
def test_each_release_runs_the_daemons_and_recordings_and_this_machines_all(
    root: Root, kernel: Root | None, names: list[str], runs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "missing", lambda: "no VTI")
    monkeypatch.setattr(places, "_collect", lambda _root, layer, _full: TESTS[layer])
    jobs = places.real_jobs(["daemon", "kernel"], Place(root, kernel), False, Chosen(names))
    found = {files.short_name(path) for job in jobs for path in job.shares}
    assert found | {f"{job.layer}/{job.name}" for job in jobs if not job.shares} == runs
    assert {(job.root, job.kernel) for job in jobs} == {(root, kernel)}


TESTS = {
    "daemon": {"tests/daemon/test_mtu.py": ["tests/daemon/test_mtu.py::a", "tests/daemon/test_mtu.py::b"]},
    "kernel": {f"tests/kernel/test_{name}.py": [f"tests/kernel/test_{name}.py::a"] for name in ("recordings", "placement")},
}


def test_a_run_has_this_machine_first_and_sid_only_where_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "own", lambda: TRIXIE.release)

    def names(full: bool, only: list[str] | None, *asked: str) -> list[str]:
        return [release.name for release in places.chosen_releases(full, only, Chosen(asked))]

    assert names(False, None) == ["trixie", "bookworm"]
    assert names(True, None) == ["trixie", "bookworm", "sid"]
    assert names(False, None, "daemon/shared") == ["trixie"]
    assert names(False, ["sid"], "daemon/shared") == ["sid"]


def test_what_each_run_has_room_for_of_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def collect(place: Place, layer: str, _full: bool) -> dict[str, list[str]]:
        asked.append((layer, places._chosen_tests(place)))
        return TESTS[layer]

    monkeypatch.setattr(places, "_collect", collect)
    jobs = places.real_jobs(["daemon", "kernel"], Place(TRIXIE, brief=True), False, Chosen([]))
    assert {files.short_name(path) for job in jobs for path in job.shares} == {"kernel/recordings"}
    assert [job.name for job in jobs if not job.shares] == ["demonstration"]
    words = next(job.command() for job in jobs if job.shares)
    assert words[words.index("-k") + 1] == "libreswan-5.2 or strongswan-6.0.1"
    assert places._chosen_tests(Place(TRIXIE)) == places._chosen_tests(Place(OWN)) == []


def test_a_full_run_has_each_root_on_each_others_kernel() -> None:
    assert places.pairs([OWN, TRIXIE], every=False) == [Place(OWN), Place(TRIXIE)]
    assert places.pairs([OWN, TRIXIE], every=True) == [Place(OWN), Place(TRIXIE), Place(OWN, TRIXIE), Place(TRIXIE, OWN)]
    assert places.pairs([OWN, TRIXIE], every=False, kernel=TRIXIE) == [Place(OWN, TRIXIE), Place(TRIXIE)]


def test_a_made_roots_python_is_run_by_its_own_loader() -> None:
    command, variables = TRIXIE.natively("-m", "pytest")
    assert command[0] == "/made/trixie/usr/lib64/ld-linux-x86-64.so.2"
    assert command[-3:] == ["/made/trixie/usr/bin/python3", "-m", "pytest"]
    assert variables == {"PYTHONHOME": "/made/trixie/usr"}
    assert OWN.natively("-V") == ([OWN.python, "-V"], {})


def test_another_list_of_packages_is_another_root() -> None:
    assert roots.digest(["a", "b"]) != roots.digest(["a", "c"])
    assert roots.digest(["a", "b"]) == roots.digest(["a", "b"])


def test_the_summary_says_where_each_row_ran_and_what_was_not_for_a_release() -> None:
    one = Result("daemon", "test_mtu", "bookworm", 2.0, {"tests/daemon/test_mtu.py::a": "passed"})
    other = Result("daemon", "test_mtu", "trixie", 3.0, {"tests/daemon/test_mtu.py::a": "failed"}, {})
    rows = {"bookworm": [], "trixie": [Exclusion("daemon/test_mobike.py", ["trixie"], "it moves nothing")]}
    lines = summary([one, other], 5.0, rows).splitlines()
    assert "  daemon   bookworm     2.0 s  1 passed, 0 failed, 0 skipped          test_mtu" in lines
    assert "  daemon   trixie       3.0 s  0 passed, 1 failed, 0 skipped          test_mtu" in lines
    assert "  daemon trixie (test_mtu): tests/daemon/test_mtu.py::a" in lines
    assert lines[lines.index("not for trixie (tests/vm/releases.py):") + 1] == "  daemon/test_mobike.py: it moves nothing"
    assert not any("not for bookworm" in line for line in lines)


def test_files_that_guests_shared_have_their_release() -> None:
    shared = Result("guests", "1", "trixie", outcomes={"tests/daemon/test_mtu.py::a": "passed"})
    (one,) = by_file([shared], {"tests/daemon/test_mtu.py": ["tests/daemon/test_mtu.py::a", "tests/daemon/test_mtu.py::b"]})
    assert (one.release, one.outcomes) == (
        "trixie",
        {"tests/daemon/test_mtu.py::a": "passed", "tests/daemon/test_mtu.py::b": "failed"},
    )


@pytest.mark.parametrize(
    ("kernel", "where"), [(None, "trixie"), (OWN, "trixie, bookworm's kernel")], ids=["its own", "another's"]
)
def test_a_job_says_on_which_kernel_it_is_where_that_is_anothers(kernel: Root | None, where: str) -> None:
    job = Job("daemon", "all", list, real=True, root=TRIXIE, kernel=kernel)
    assert (job.where, job.in_guest) == (where, True)


@pytest.mark.parametrize(("seconds", "times"), [([0.01], 1.0), ([0.002] * 3, 1.0), ([0.03, 0.04, 9.0], 4.0)])
def test_limits_grow_with_a_bare_interpreters_start_and_never_shrink(seconds: list[float], times: float) -> None:
    assert speed.of(seconds) == pytest.approx(times)


def test_a_guest_is_told_how_slow_its_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(speed.SAID, "3.5")
    speed.slowness.cache_clear()
    try:
        assert speed.slowness() == 3.5
    finally:
        speed.slowness.cache_clear()


@pytest.mark.parametrize(("said", "in_time"), [(b"", False), (b"boot 1.5\n", False), (b"exit 0\n", True)])
def test_a_guest_that_says_no_more_hangs_unless_it_said_its_status(said: bytes, in_time: bool) -> None:
    reader, writer = os.pipe()
    os.write(writer, said)
    ended: list[bool] = []

    def end() -> None:
        ended.append(True)
        os.close(writer)

    assert guest.relay({reader: lambda _: None}, 0.05, end) == in_time
    assert ended == [True] * in_time
    os.close(reader)
    if not ended:
        os.close(writer)
