"""The root file systems that tests run in: this machine's own, and one of each other release, made by mmdebstrap and kept."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import TOP
from tests.vm import cache, debian, parts, releases
from tests.vm.releases import Release

PACKAGES = (
    "bird2",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libnss3-tools",
    "libreswan",
    "mount",
    "nftables",
    "procps",
    "python3",
    "python3-pyroute2",
    "python3-pytest",
    "systemd",
)
UNWANTED = ("doc", "man", "locale")  # below /usr/share
LAYOUT = 1  # raise it when what a root has besides the packages changes
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
LOADER = "usr/lib64/ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class Root:
    release: Release
    folder: Path

    @property
    def own(self) -> bool:
        """Whether it is this machine's."""
        return self.folder == Path("/")

    @property
    def archive(self) -> debian.Archive:
        return debian.Archive(self.folder)

    def parts(self) -> parts.Parts:
        """What a guest with this release's kernel boots from."""
        return parts.prepare(self.release, self.archive)

    @property
    def python(self) -> str:
        """The interpreter that runs its tests, as a guest sees it: of a made root Debian's own, with Debian's pyroute2."""
        return str(TOP / ".venv/bin/python") if self.own else "/usr/bin/python3"

    @property
    def pyroute2(self) -> list[Path]:
        """The folder of the package that this interpreter imports."""
        return list(TOP.glob(".venv/lib/python3.*/site-packages/pyroute2")) if self.own else [DIST_PACKAGES / "pyroute2"]

    def natively(self, *arguments: str) -> tuple[list[str], Mapping[str, str]]:
        """The command and the variables that run it on this machine, a made root's by its own loader and libraries.

        No privilege is needed, and paths are this machine's: it compiles for the guest, which is 20 times as slow."""
        if self.own:
            return [self.python, *arguments], {}
        python = self.folder / self.python.lstrip("/")
        command = [str(self.folder / LOADER), "--library-path", str(self.folder / LIBRARIES), str(python), *arguments]
        return command, {"PYTHONHOME": str(self.folder / "usr")}


def own() -> Root:
    return Root(releases.own(), Path("/"))


def prepare(release: Release) -> Root:
    """The root of a release, made where it is not there: about a minute, and 250 MB of the cache."""
    if release.name == releases.own().name:
        return own()
    place = cache.folder() / f"root-{release.name}-{digest(PACKAGES)}"
    with cache.locked(place.name):
        if not place.is_dir():
            try:
                _make(release, place)
            except debian.Missing as problem:
                alone = f"or leave other releases out: `tests/run --release {releases.own().name}`"
                raise debian.Missing(f"no root file system of {release.name}: {problem}; {alone}") from None
    return Root(release, place)


def digest(packages: Sequence[str]) -> str:
    """What names the root that has these packages."""
    return hashlib.sha256(" ".join([str(LAYOUT), *packages]).encode()).hexdigest()[:8]


def _make(release: Release, place: Path) -> None:
    """From the mirror that this machine has its own packages from; the lists stay, to fetch a kernel by."""
    if platform.machine() != "x86_64":
        raise debian.Missing(f"there is no virtual machine for {platform.machine()} to run it in")
    if os.geteuid() != 0:
        raise debian.Missing("not root: run as root")
    debian.install(["mmdebstrap"])
    print(f"making a root file system of {release.name}, in {place}", flush=True)
    options = [*debian.ARCHIVE_OPTIONS, "Acquire::Retries=3"]
    with tempfile.TemporaryDirectory(dir=cache.folder()) as work:
        debian.called(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--mode=root",
            "--skip=cleanup/apt/lists",
            *(f'--aptopt={name} "{value}"' for name, _, value in (option.partition("=") for option in options)),
            *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in UNWANTED),
            f"--include={','.join(PACKAGES)}",
            release.name,
            f"{work}/root",
            debian.mirror(),
        )
        Path(work, "root").chmod(0o755)
        Path(work, "root").rename(place)


def main() -> int:
    """python3 -m tests.vm.roots RELEASE: have its root, and the library compiled for it; says on its last line where."""
    names = [release.name for release in releases.known()]
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm.roots", description=main.__doc__)
    parser.add_argument("release", choices=names)
    try:
        root = prepare(releases.named(parser.parse_args().release))
    except debian.Missing as problem:
        print(problem, file=sys.stderr)
        return 1
    compiled(root, "updown")
    print(root.folder)
    return 0


def compiled(root: Root, *folders: str) -> None:
    """Have these folders of the clone compiled by a root's interpreter."""
    command, variables = root.natively("-m", "compileall", "-q", *(str(TOP / folder) for folder in folders))
    subprocess.run(command, env={**os.environ, **variables}, check=False)


if __name__ == "__main__":
    sys.exit(main())
