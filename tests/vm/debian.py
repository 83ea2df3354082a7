"""Debian packages: install what is missing, or unpack one into a folder without installing it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
_updated: set[Path] = set()
# A signed list stays valid for a week in sid alone, where a mirror that stands still, or a clock, may be older.
ARCHIVE_OPTIONS = ("Acquire::Languages=none", "Acquire::Check-Valid-Until=false")


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
    HERE.update()
    print(f"installing {' '.join(wanted)}", flush=True)
    with _no_services():
        HERE._apt("install", "-y", "-q", "--no-install-recommends", *wanted)


@dataclass(frozen=True)
class Archive:
    """The packages that apt knows: this machine's, or those of the release that another root file system has."""

    root: Path = Path("/")

    def update(self) -> None:
        """Refresh the lists of packages, once per run."""
        if self.root not in _updated:
            print(f"refreshing the lists of packages{self._whose} (apt-get update)", flush=True)
            self._apt("update", "-q")
            _updated.add(self.root)

    def depends(self, package: str) -> list[str]:
        """What a package depends on, by apt's lists; empty where apt knows no such package."""
        said = subprocess.run(
            ["apt-cache", *self._options, "depends", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return dependencies(said.stdout)

    def candidate(self, package: str) -> str | None:
        """The version that apt would install; None where its lists have none."""
        said = subprocess.run(
            ["apt-cache", *self._options, "policy", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in said.stdout.splitlines():
            word, _, version = line.strip().partition("Candidate: ")
            if not word and version not in ("", "(none)"):
                return version
        return None

    def unpack(self, package: str, folder: Path) -> None:
        """Download a package and lay its files below folder; nothing is installed."""
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            self._apt("download", "-q", package, cwd=work)
            (deb,) = Path(work).glob("*.deb")
            folder.mkdir(exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)

    @property
    def _whose(self) -> str:
        return "" if self.root == Path("/") else f" of {self.root.name}"

    @property
    def _options(self) -> list[str]:
        if self.root == Path("/"):
            return []
        other = [f"Dir={self.root}", "APT::Sandbox::User=root", *ARCHIVE_OPTIONS]
        return [word for option in other for word in ("-o", option)]

    def _apt(self, *words: str, cwd: str | None = None) -> None:
        called("apt-get", *self._options, "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120", *words, cwd=cwd)


HERE = Archive()


def dependencies(text: str) -> list[str]:
    """The packages that `apt-cache depends` names, in its order; of alternatives each."""
    lines = [line.strip().lstrip("|").partition("Depends: ") for line in text.splitlines()]
    return [package for word, _, package in lines if word in ("", "Pre") and package and package[0] != "<"]


def mirror() -> str:
    """The address from which this machine's apt has Debian itself, which has the other releases too."""
    form = "$(CREATED_BY) $(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    said = subprocess.run(["apt-get", "indextargets", "--format", form], stdout=subprocess.PIPE, text=True)
    found = mirrors(said.stdout)
    if not found:
        raise Missing("apt has no source of Debian's own archive: give /etc/apt one")
    return found[0]


def mirrors(text: str) -> list[str]:
    """The addresses in lines of apt's index targets that are of Debian's main archive."""
    rows = [line.split() for line in text.splitlines()]
    whole = [row for row in rows if len(row) == 5 and row[:2] == ["Packages", "Debian"] and row[3] == "main"]
    return [row[4] for row in whole if not row[2].endswith(("-security", "-updates"))]


def called(*command: str, cwd: str | None = None) -> None:
    """Run a program of packages; what it printed is shown only where it fails.

    Raises Missing where it ends with another status than 0."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
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
