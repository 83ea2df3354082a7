"""strongSwan beside libreswan: Debian's packages of the two conflict, so strongSwan's are unpacked into the cache alone.

A node lays them over its own /etc and /usr (tests/daemon/charon.py). A guest sees the folder at its place in the cache
whatever its root is. Nothing else in the packages is wanted, and no links from /lib to /usr/lib are touched."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.vm import cache, releases
from tests.vm.debian import Missing
from tests.vm.roots import Root

PACKAGES = (
    "libstrongswan",
    "libstrongswan-standard-plugins",
    "strongswan-charon",
    "strongswan-libcharon",
    "strongswan-starter",
    "strongswan-swanctl",
)
LAYOUT = 2  # raise it when what a folder of the cache holds changes


def kept() -> Path:
    """The folder with the files of the packages of the release that these tests run on, the newest of several."""
    return _newest(releases.running().name)


def prepare(root: Root) -> Path:
    """Have the version that apt has now; one from before where that cannot be had."""
    name = root.release.name
    with cache.locked("strongswan"):
        try:
            folder = _place(root)
            if not folder.is_dir():
                root.archive.update()
                folder = _place(root)
            if not folder.is_dir():
                print(f"unpacking {' '.join(PACKAGES)} into {folder}", flush=True)
                _build(root, folder)
            folder.touch()
        except Missing as problem:
            if not _folders(name):
                raise
            print(f"{problem}\ngoing on with {_newest(name).name}, which is in the cache", flush=True)
        return _newest(name)


def _newest(release: str) -> Path:
    folders = sorted(_folders(release), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise Missing(f"no strongSwan of {release} in {cache.folder()}: `tests/run --release {release} daemon` fetches it")
    return folders[-1]


def _folders(release: str) -> list[Path]:
    return list(cache.folder().glob(f"strongswan-{release}-*-{LAYOUT}"))


def _place(root: Root) -> Path:
    version = root.archive.candidate(PACKAGES[0])
    if version is None:
        root.archive.update()
        version = root.archive.candidate(PACKAGES[0])
    if version is None:
        raise Missing(f"apt knows no package {PACKAGES[0]}: run the daemon tests on Debian 12 or later")
    plain = re.sub("[^0-9A-Za-z.+~-]", "_", version)  # a colon would end the path in an overlay's options
    return cache.folder() / f"strongswan-{root.release.name}-{plain}-{LAYOUT}"


def _build(root: Root, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.folder()) as name:
        work = Path(name) / "files"
        for package in PACKAGES:
            root.archive.unpack(package, work)
        work.rename(folder)
