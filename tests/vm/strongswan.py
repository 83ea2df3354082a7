"""strongSwan beside libreswan: Debian's packages of the two conflict, so strongSwan's are unpacked into the cache alone.

A node lays them over its own /etc and /usr (tests/daemon/charon.py). A guest sees the cache as it sees all of this
machine. Nothing else in the packages is wanted, and no links from /lib to /usr/lib are touched."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.vm import debian, parts
from tests.vm.debian import Missing

PACKAGES = (
    "libstrongswan",
    "libstrongswan-standard-plugins",
    "strongswan-charon",
    "strongswan-libcharon",
    "strongswan-starter",
    "strongswan-swanctl",
)
LAYOUT = 1  # raise it when what a folder of the cache holds changes


def kept() -> Path:
    """The folder with the files of the packages, the newest of several."""
    folders = sorted(_folders(), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise Missing(f"no strongSwan in {parts.cache()}: `tests/run daemon` fetches it")
    return folders[-1]


def prepare() -> Path:
    """Have the version that apt has now; one from before where that cannot be had."""
    with parts.locked("strongswan"):
        try:
            folder = _place()
            if not folder.is_dir():
                debian.update()
                folder = _place()
            if not folder.is_dir():
                print(f"unpacking {' '.join(PACKAGES)} into {folder}", flush=True)
                _build(folder)
            folder.touch()
        except Missing as problem:
            if not _folders():
                raise
            print(f"{problem}\ngoing on with {kept().name}, which is in the cache", flush=True)
        return kept()


def _folders() -> list[Path]:
    return list(parts.cache().glob(f"strongswan-*-{LAYOUT}"))


def _place() -> Path:
    version = debian.candidate(PACKAGES[0])
    if version is None:
        debian.update()
        version = debian.candidate(PACKAGES[0])
    if version is None:
        raise Missing(f"apt knows no package {PACKAGES[0]}: run the daemon tests on Debian 12 or later")
    plain = re.sub("[^0-9A-Za-z.+~-]", "_", version)  # a colon would end the path in an overlay's options
    return parts.cache() / f"strongswan-{plain}-{LAYOUT}"


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=parts.cache()) as name:
        work = Path(name) / "files"
        for package in PACKAGES:
            debian.unpack(package, work)
        work.rename(folder)
