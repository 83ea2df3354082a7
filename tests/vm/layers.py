"""The layers of tests behind tests/run: sets up what they need, runs them side by side and adds up."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import debian, ground, guest, parts, pythons, strongswan
from tests.vm.debian import Missing
from tests.vm.printed import Lines, say
from tests.vm.report import Result, by_file, summary

LAYERS = ("lint", "unit", "kernel", "daemon", "bench")
REAL = ("kernel", "daemon", "bench")  # need a kernel with VTI and IPsec
PACKAGES = {
    "lint": ["python3-venv"],
    "unit": ["python3-venv"],
    "kernel": ["python3-venv", "iproute2", "iputils-ping", "kmod", "nftables"],
    "daemon": ["python3-venv", "bird2", "iproute2", "iputils-ping", "kmod", "libreswan", "libnss3-tools", "systemd"],
    "bench": ["python3-venv", "iproute2", "kmod", "libreswan"],
}
GUEST_MEMORY = 1536
JOB_SECONDS = 1500.0
FULL_JOB_SECONDS = 5400.0
SHARED_SECONDS = 3000.0
FULL_SHARED_SECONDS = 20000.0
ALONE_IN_A_GUEST = ("test_three_sites",)  # with two processors
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run", description=f"Set up and run the layers: {', '.join(LAYERS)}.")
    parser.add_argument("--full", action="store_true", help="longer variants: slow tests, every Python at hand")
    parser.add_argument("layer", nargs="*", metavar="LAYER", help="only these (all); daemon/shared: only that file of it")
    given = parser.parse_args()
    wanted = {layer.partition("/")[0] for layer in given.layer or LAYERS}
    files = {layer for layer in given.layer if "/" in layer}
    layers = [layer for layer in LAYERS if layer in wanted]
    if wanted - set(LAYERS):
        parser.error(f"no layer {' '.join(sorted(wanted - set(LAYERS)))}; there are {' '.join(LAYERS)}")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.chdir(TOP)
    try:
        python = prepare(layers)
        results = run(jobs(layers, python, given.full, files))
    except Missing as problem:
        print(f"tests/run: {problem}", file=sys.stderr)
        return 1
    for layer in layers:
        if layer != "bench" and not any(result.ran for result in results if result.layer == layer):
            results.append(Result(layer, "-", outcomes={layer: "failed"}, reasons={layer: "the layer ran no test"}))
    print(summary(results, time.monotonic() - began), flush=True)
    return 1 if any(result.count("failed") for result in results) else 0


def prepare(layers: Sequence[str]) -> str:
    """Have the packages, the virtual environment and the virtual machine; the interpreter of .venv."""
    if os.geteuid() != 0 and set(layers) & set(REAL):
        raise Missing("not root, which the kernel, daemon and bench layers need: run as root, or only `tests/run lint unit`")
    debian.install(sorted({package for layer in layers for package in PACKAGES[layer]}))
    python = pythons.environment(TOP / ".venv", pythons.default(), pythons.requirements("test", "lint"))
    if "daemon" in layers:
        strongswan.prepare()
    if set(layers) & set(REAL):
        if ground.missing():
            parts.prepare()
            say("setup", f"virtual machines by {guest.accelerator()}, since {ground.missing()}")
        else:
            say("setup", "no virtual machine: this kernel has all that is needed")
        subprocess.run([python, "-m", "compileall", "-q", "updown", "tests"], check=False)
    return python


def jobs(layers: Sequence[str], python: str, full: bool, files: Collection[str]) -> list[Job]:
    found: list[Job] = []
    if "lint" in layers:
        found += _lint_jobs(python)
    if "unit" in layers:
        found += _unit_jobs(python, full)
    found += _real_jobs([layer for layer in ("daemon", "kernel") if layer in layers], python, full, files)
    if "bench" in layers:
        seconds = "45" if full else "8"  # for each table
        bench: Callable[[], Sequence[str]] = partial(list, [python, "-m", "tests.bench.updown_bench", seconds])
        found.append(Job("bench", "this machine", bench, tests=False))
        if ground.missing():
            found.append(Job("bench", "guest", bench, tests=False, real=True))
    return found


def _lint_jobs(python: str) -> list[Job]:
    tools = Path(python).parent
    scripts = [str(path.relative_to(TOP)) for path in sorted(TOP.glob("hooks/*")) if path.is_file()]
    oldest = ".".join(map(str, pythons.oldest_supported()))
    ruff, mypy = [str(tools / "ruff")], [str(tools / "mypy")]
    checks = {
        "ruff check": [*ruff, "check", "--config", ".ci/ruff.toml", ".", *scripts],
        "ruff format": [*ruff, "format", "--check", "--config", ".ci/ruff.toml", ".", *scripts],
        f"mypy {oldest}": [*mypy, "--python-version", oldest, "updown", *scripts],
        "mypy tests": [*mypy, "updown", "tests"],  # what they import may be written for newer Pythons alone
        "bash -n": ["sh", "-ec", "for script; do bash -n $script; done", "sh", *_shell_scripts()],
    }
    return [Job("lint", name, partial(list, command), tests=False) for name, command in checks.items()]


def _shell_scripts() -> list[str]:
    places = [TOP / "tests/run", TOP / ".ci/run", *TOP.glob("contrib/*"), *TOP.glob("contrib/*/*")]
    shells = (b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash")
    files = [path for path in places if path.is_file() and path.read_bytes().startswith(shells)]
    return [str(path.relative_to(TOP)) for path in files]


def _unit_jobs(python: str, full: bool) -> list[Job]:
    """The newest pyroute2 and the oldest, the oldest Python and the newest; property tests once, or with all."""
    hand = pythons.at_hand()
    say("unit", f"Pythons at hand: {', '.join(one.name for one in hand)}")
    (newest,) = [line for line in pythons.requirements() if line.startswith("pyroute2")]
    oldest = pythons.oldest_pyroute2()
    pairs = [(hand[0], oldest), (hand[-1], newest)]
    if full:
        pairs += [(one, pyroute2) for one in hand for pyroute2 in (oldest, newest)]
    others = [pair for pair in dict.fromkeys(pairs) if pair != (pythons.default(), newest)]

    def job(one: pythons.Python, pyroute2: str, interpreter: Callable[[], str], folders: Sequence[str]) -> Job:
        command = [*_pytest(full), "-q", "--durations=5", *folders]
        return Job("unit", f"Python {one.name}, {pyroute2}", lambda: [interpreter(), *command])

    both = ["tests/unit", "tests/property"]
    found = [job(pythons.default(), newest, lambda: python, both)]
    for pair in others:
        found.append(job(*pair, partial(pythons.kept, *pair), both if full else [*both[:1], "--fork"]))
    return found


def _real_jobs(layers: Sequence[str], python: str, full: bool, only: Collection[str]) -> list[Job]:
    """Guests that share the files, one for each processor; one process for a layer where no guest is wanted."""
    command = [python, *_pytest(full), "-v", "--durations=5"]
    limit = FULL_JOB_SECONDS if full else JOB_SECONDS
    found = []
    shared: dict[str, list[str]] = {}
    for layer in layers:
        tests = {path: its for path, its in _collect(python, layer, full).items() if its and _chosen(layer, path, only)}
        if not ground.missing():
            found += [Job(layer, "all", partial(list, [*command, *tests]), real=True, limit=limit)] if tests else []
            continue
        for path in sorted(tests, key=lambda path: -len(tests[path])):
            if Path(path).stem in ALONE_IN_A_GUEST:
                words: Callable[[], Sequence[str]] = partial(list, [*command, path])
                found.append(Job(layer, Path(path).stem, words, real=True, limit=limit, processors=2))
            else:
                shared[path] = tests[path]
    one = Job("guests", "1", partial(list, command), real=True, shares=shared)
    one = replace(one, limit=FULL_SHARED_SECONDS if full else SHARED_SECONDS)
    return found + ([replace(one, name=str(number + 1)) for number in range(_width())] if shared else [])


def _chosen(layer: str, path: str, only: Collection[str]) -> bool:
    return not only or f"{layer}/{Path(path).stem[len('test_') :]}" in only


def _collect(python: str, layer: str, full: bool) -> dict[str, list[str]]:
    """The tests of each file of a layer; its name for one that cannot be read, which its own run will tell.

    Collecting natively also leaves behind what pytest compiles, which takes a guest 20 times as long."""
    found: dict[str, list[str]] = {str(path.relative_to(TOP)): [] for path in sorted(TOP.glob(f"tests/{layer}/test_*.py"))}
    command = [python, *_pytest(full), "-q", "--collect-only", f"tests/{layer}"]
    said = subprocess.run(command, env=dict(os.environ, **LEAN), stdout=subprocess.PIPE, text=True)
    for line in said.stdout.splitlines():
        if "::" in line:
            found[line.partition("::")[0]].append(line)
    return {path: tests or ([path] if said.returncode else []) for path, tests in found.items()}


def _pytest(full: bool) -> list[str]:
    return ["-m", "pytest", "--tb=short", *([] if full else ["-m", "not slow"])]


def _width() -> int:
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
        with concurrent.futures.ThreadPoolExecutor(_width()) as pool:
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


if __name__ == "__main__":
    sys.exit(main())
