"""The jobs of a run: each a process here or in a guest, side by side as the processors and the memory allow."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import ground, guest
from tests.vm.debian import Missing
from tests.vm.printed import Lines, say
from tests.vm.report import Result, by_file

GUEST_MEMORY = 1536
JOB_SECONDS = 1500.0
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
    limit: float = JOB_SECONDS
    processors: int = 1
    shares: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The tests by file that it does a part of: what other jobs with the same have not taken."""


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
        shared = [(job, result) for job, result in zip(beside, results) if job.shares]
        if shared:
            results += by_file([result for _, result in shared], shared[0][0].shares)
        return results + list(map(_run_one, alone, reports[len(beside) :]))


def _run_one(job: Job, report: Path) -> Result:
    result = Result(job.layer, job.name)
    label = f"{job.layer}: {job.name}"
    say(label, "starts" + (" in a guest" if job.real and ground.missing() else ""))
    began = time.monotonic()
    try:
        status = _in_guest(job, report, label) if job.real and ground.missing() else _here(job, report, label)
    except (Missing, guest.GuestFailed, OSError) as problem:
        say(label, str(problem))
        status = 125
    result.seconds = time.monotonic() - began
    if job.tests:
        result.read(report, status)
    elif status or job.layer != "bench":
        result.note(job.name, "failed" if status else "passed", f"status {status}" if status else "")
    words = {0: "done", guest.TIMED_OUT: f"not done after {job.limit:.0f} s, ended"}
    say(label, f"{words.get(status, f'ended with status {status}')}, {result.seconds:.1f} s")
    return result


def _in_guest(job: Job, report: Path, label: str) -> int:
    settings = guest.Settings(
        folder=TOP,
        memory=GUEST_MEMORY,
        processors=job.processors,
        timeout=job.limit,
        shares=[report.parent],
        copies=[TOP / "updown", TOP / "hooks", *TOP.glob(".venv/lib/python3.*/site-packages/pyroute2")],
        environment={"VTI_UPDOWN_REPORT": str(report), **LEAN},
    )
    out = Lines(label)
    command = list(job.command())
    if job.shares:
        command += ["--among", str(report.parent), *job.shares]
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
    out = Lines(label)
    reader, writer = os.pipe()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    killer = threading.Timer(job.limit, process.kill)
    killer.start()
    with open(reader, "rb", buffering=0) as stream:
        for data in iter(partial(stream.read, 65536), b""):
            out.take(data)
    status = process.wait()
    out.finish()
    if killer.finished.is_set():
        return guest.TIMED_OUT
    killer.cancel()
    return status
