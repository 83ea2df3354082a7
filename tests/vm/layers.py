"""The layers of tests behind tests/run: sets up what they need, runs them side by side and adds up."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import debian, ground, guest, parts, pythons, strongswan
from tests.vm.debian import Missing
from tests.vm.jobs import JOB_SECONDS, LEAN, Job, run, width
from tests.vm.printed import say
from tests.vm.report import Result, summary

LAYERS = ("lint", "unit", "kernel", "daemon", "bench")
REAL = ("kernel", "daemon", "bench")  # need a kernel with VTI and IPsec
PACKAGES = {
    "lint": ["python3-venv"],
    "unit": ["python3-venv"],
    "kernel": ["python3-venv", "iproute2", "iputils-ping", "kmod", "nftables"],
    "daemon": ["python3-venv", "bird2", "iproute2", "iputils-ping", "kmod", "libreswan", "libnss3-tools", "systemd"],
    "bench": ["python3-venv", "iproute2", "kmod", "libreswan"],
}
FULL_JOB_SECONDS = 5400.0
SHARED_SECONDS = 3000.0
FULL_SHARED_SECONDS = 20000.0
ALONE_IN_A_GUEST = ("test_three_sites",)  # with two processors


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
    return found + ([replace(one, name=str(number + 1)) for number in range(width())] if shared else [])


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


if __name__ == "__main__":
    sys.exit(main())
