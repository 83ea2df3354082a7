"""The layers of tests behind tests/run: sets up what they need, runs them side by side and adds up."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import debian, files, ground, pythons, releases
from tests.vm.debian import Missing
from tests.vm.jobs import Job, run
from tests.vm.places import REAL, Place, places, pytest_command, real_jobs
from tests.vm.printed import say
from tests.vm.report import Result, summary

LAYERS = ("lint", "unit", "kernel", "daemon", "bench")
PACKAGES = {
    "lint": ["python3-venv"],
    "unit": ["python3-venv"],
    "kernel": ["python3-venv", "iproute2", "iputils-ping", "kmod", "mount", "nftables"],
    "daemon": ["python3-venv", "bird2", "iproute2", "iputils-ping", "kmod", "libreswan", "libnss3-tools", "mount", "systemd"],
    "bench": ["python3-venv", "iproute2", "kmod", "libreswan"],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run", description=f"Set up and run the layers: {', '.join(LAYERS)}.")
    names = [release.name for release in releases.known()]
    parser.add_argument("--full", action="store_true", help="longer variants: slow tests, every Python, release and kernel")
    parser.add_argument("--release", action="append", choices=names, help="only on this one; of files, else this machine's")
    parser.add_argument("--kernel", choices=names, help="the kernel of this one, in guests")
    parser.add_argument("layer", nargs="*", metavar="LAYER", help="only these (all); daemon/shared: only that file of it")
    given = parser.parse_args()
    here = not given.release or releases.own().name in given.release
    wanted = {layer.partition("/")[0] for layer in given.layer or (LAYERS if here else REAL[:2])}
    layers = [layer for layer in LAYERS if layer in wanted]
    if wanted - set(LAYERS):
        parser.error(f"no layer {' '.join(sorted(wanted - set(LAYERS)))}; there are {' '.join(LAYERS)}")
    chosen = files.asked(given.layer)
    if chosen.unknown:
        parser.error(f"no file {' '.join(chosen.unknown)}: tests/LAYER/test_FILE.py is LAYER/FILE")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.chdir(TOP)
    try:
        python = prepare(layers)
        pairs = places(layers, given.full, given.release, given.kernel, chosen)
        results = run(jobs(layers, python, given.full, chosen, pairs))
    except Missing as problem:
        print(f"tests/run: {problem}", file=sys.stderr)
        return 1
    for layer in layers:
        if layer != "bench" and not any(result.ran for result in results if result.layer == layer):
            results.append(Result(layer, "-", outcomes={layer: "failed"}, reasons={layer: "the layer ran no test"}))
    excluded = {place.root.release.name: releases.exclusions(place.root.release.name) for place in pairs}
    print(summary(results, time.monotonic() - began, excluded), flush=True)
    return 1 if any(result.count("failed") for result in results) else 0


def prepare(layers: Sequence[str]) -> str:
    """Have the packages and the virtual environment; the interpreter of .venv."""
    if os.geteuid() != 0 and set(layers) & set(REAL):
        raise Missing("not root, which the kernel, daemon and bench layers need: run as root, or only `tests/run lint unit`")
    debian.install(sorted({package for layer in layers for package in PACKAGES[layer]}))
    return pythons.environment(TOP / ".venv", pythons.default(), pythons.requirements("test", "lint"))


def jobs(layers: Sequence[str], python: str, full: bool, chosen: files.Chosen, pairs: Sequence[Place]) -> list[Job]:
    found: list[Job] = []
    if "lint" in layers:
        found += _lint_jobs(python)
    if "unit" in layers:
        found += _unit_jobs(python, full, chosen)
    for place in pairs:
        found += real_jobs([layer for layer in ("daemon", "kernel") if layer in layers], place, full, chosen)
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


def _unit_jobs(python: str, full: bool, chosen: files.Chosen) -> list[Job]:
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
        command = [*pytest_command(full), "-q", "--durations=5", *folders]
        return Job("unit", f"Python {one.name}, {pyroute2}", lambda: [interpreter(), *command])

    both = chosen.units() or ["tests/unit", "tests/property"]
    found = [job(pythons.default(), newest, lambda: python, both)]
    for pair in others:
        found.append(job(*pair, partial(pythons.kept, *pair), both if full or chosen.units() else [*both[:1], "--fork"]))
    return found


if __name__ == "__main__":
    sys.exit(main())
