"""The jobs of a run: each a process here or in a guest, side by side as the processors and the memory allow."""

from __future__ import annotations

import concurrent.futures
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import ground, guest, releases, roots, speed
from tests.vm.debian import Missing
from tests.vm.printed import Lines, say
from tests.vm.report import Result, by_file
from tests.vm.roots import Root

GUEST_MEMORY = 1536
SILENCE_SECONDS = 1500.0
FULL_SILENCE_SECONDS = 5400.0
LEAN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins that these tests do not use take long to start
PRIVATE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@dataclass(frozen=True)
class Job:
    """One process, here or in a guest. `command` is asked for when the job starts: it may make an environment."""

    layer: str
    name: str
    command: Callable[[], Sequence[str]]
    tests: bool = True
    real: bool = False
    root: Root = field(default_factory=roots.own)
    kernel: Root | None = None
    """Another whose kernel the guest boots."""
    silence: float = SILENCE_SECONDS
    """Without a word for so long it hangs, on the machine that limits are made for (tests/vm/speed.py)."""
    processors: int = 1
    shares: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The tests by file that it does a part of: what other jobs with the same release and kernel have not taken."""

    @property
    def where(self) -> str:
        """The release, and whose kernel where that is another's."""
        name = self.root.release.name
        return f"{name}, {self.kernel.release.name}'s kernel" if self.kernel else name

    @property
    def in_guest(self) -> bool:
        return self.real and (not self.root.own or self.kernel is not None or bool(ground.missing()))


def width() -> int:
    """How many jobs run side by side."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(1, min(os.cpu_count() or 1, memory // (GUEST_MEMORY + 512)))


def run(todo: Sequence[Job]) -> list[Result]:
    """The benchmarks last and alone, everything else side by side."""
    beside = [job for job in todo if job.layer != "bench"]
    alone = [job for job in todo if job.layer == "bench"]
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))  # the guests go with us
    signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="reports.") as folder:
        reports = [Path(folder) / f"{number}.jsonl" for number in range(len(todo))]
        with concurrent.futures.ThreadPoolExecutor(width()) as pool:
            results = list(pool.map(_run_one, beside, reports))
        for where in dict.fromkeys(job.where for job in beside):
            shared = [(job, result) for job, result in zip(beside, results) if job.shares and job.where == where]
            if shared:
                results += by_file([result for _, result in shared], shared[0][0].shares)
        return results + list(map(_run_one, alone, reports[len(beside) :]))


def _run_one(job: Job, report: Path) -> Result:
    result = Result(job.layer, job.name, job.where)
    label = f"{job.layer} {job.where}: {job.name}"
    say(label, "starts" + (" in a guest" if job.in_guest else ""))
    began = time.monotonic()
    try:
        status = _in_guest(job, report, label) if job.in_guest else _here(job, report, label)
    except (Missing, guest.GuestFailed, OSError) as problem:
        say(label, str(problem))
        status = 125
    result.seconds = time.monotonic() - began
    if job.tests:
        result.read(report, status)
    elif status or job.layer != "bench":
        result.note(job.name, "failed" if status else "passed", f"status {status}" if status else "")
    words = {0: "done", guest.TIMED_OUT: f"said nothing for {job.silence * speed.slowness():.0f} s, ended"}
    say(label, f"{words.get(status, f'ended with status {status}')}, {result.seconds:.1f} s")
    return result


def _in_guest(job: Job, report: Path, label: str) -> int:
    settings = guest.Settings(
        folder=TOP,
        root=job.root,
        kernel=job.kernel,
        memory=GUEST_MEMORY,
        processors=job.processors,
        silence=job.silence,
        shares=[report.parent],
        copies=[TOP / "updown", TOP / "hooks", *job.root.pyroute2],
        environment={"VTI_UPDOWN_REPORT": str(report), releases.SAID: job.root.release.name, **LEAN},
    )
    out = Lines(label)
    command = list(job.command())
    if job.shares:
        among = report.parent / job.where.replace(" ", "-")
        among.mkdir(exist_ok=True)
        command += ["--among", str(among), *job.shares]
    status = guest.run(command, settings, out.take, out.take)
    out.finish()
    return status


def _here(job: Job, report: Path, label: str) -> int:
    command = list(job.command())
    if job.real:
        command = [*PRIVATE, "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command]
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    environment = dict(os.environ, VTI_UPDOWN_REPORT=str(report))
    environment[releases.SAID] = job.root.release.name
    out = Lines(label)
    reader, writer = os.pipe()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    hangs = False
    with open(reader, "rb", buffering=0) as stream:
        while not hangs:
            hangs = not select.select([stream], [], [], job.silence * speed.slowness())[0]
            data = b"" if hangs else stream.read(65536)
            if not data:
                break
            out.take(data)
    if hangs:
        process.kill()
    status = process.wait()
    out.finish()
    return guest.TIMED_OUT if hangs else status
