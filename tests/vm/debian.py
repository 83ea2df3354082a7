"""Debian packages: install what is missing, or unpack one into a folder without installing it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
_updated = False


class Missing(Exception):
    """Something the tests need is not there and cannot be had: the text says what, why and what to do."""


def missing(packages: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *packages]
    try:
        lines = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    except FileNotFoundError:
        raise Missing("this is no Debian (there is no dpkg): run the tests on Debian 12 or later") from None
    installed = {line.split()[0] for line in lines if line.split()[1:] == ["ii"]}
    return [package for package in packages if package not in installed]


def install(packages: Sequence[str]) -> None:
    """Install those that are missing, without starting any service."""
    wanted = missing(packages)
    if not wanted:
        return
    if os.geteuid() != 0:
        raise Missing(f"not root, and these packages are missing: {' '.join(wanted)}; run as root, or install them")
    update()
    print(f"installing {' '.join(wanted)}", flush=True)
    with _no_services():
        _apt("install", "-y", "-q", "--no-install-recommends", *wanted)


def update() -> None:
    """Refresh the lists of packages, once per run."""
    global _updated
    if not _updated:
        print("refreshing the lists of packages (apt-get update)", flush=True)
        _apt("update", "-q")
        _updated = True


def dependency(package: str, prefix: str) -> str | None:
    """The package beginning with prefix that `package` depends on, by apt's lists; None where apt knows none."""
    text = subprocess.run(["apt-cache", "depends", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in text.stdout.splitlines():
        word, _, name = line.strip().partition("Depends: ")
        if not word and name.startswith(prefix):
            return name
    return None


def candidate(package: str) -> str | None:
    """The version that apt would install; None where its lists have none."""
    said = subprocess.run(["apt-cache", "policy", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in said.stdout.splitlines():
        word, _, version = line.strip().partition("Candidate: ")
        if not word and version not in ("", "(none)"):
            return version
    return None


def unpack(package: str, folder: Path) -> None:
    """Download a package and lay its files below folder; nothing is installed."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _apt("download", "-q", package, cwd=work)
        (deb,) = Path(work).glob("*.deb")
        folder.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)


def _apt(*words: str, cwd: str | None = None) -> None:
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    command = ["apt-get", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", *words]
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        print(done.stdout.decode(errors="replace"), flush=True)
        reason = f"`{' '.join(command)}` ended with status {done.returncode}"
        raise Missing(f"{reason}: is this machine offline? Mend that (its output is above) and run again")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep apt from starting the daemons it installs, for as long as it runs."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
