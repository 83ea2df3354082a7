"""What a guest boots from: Debian's kernel, its modules and an initramfs, kept in a cache by kernel version."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import lzma
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.vm import debian
from tests.vm.cpio import Archive

KERNEL = "linux-image-amd64"
PACKAGES = ("qemu-system-x86", "kmod")
EARLY = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
LAYOUT = 1  # raise it when what a folder of the cache holds changes


@dataclass(frozen=True)
class Parts:
    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"

    @property
    def early(self) -> str:
        """The modules in the initramfs, in the order to load them."""
        return (self.folder / "early").read_text()

    @property
    def modules(self) -> Path:
        return self.folder / "tree/lib/modules"


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "vti-updown-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the cache: what two runs would prepare at once, one prepares."""
    with open(cache() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def prepare() -> Parts:
    """Have everything a guest needs; quick when it is there already."""
    if platform.machine() != "x86_64":
        raise debian.Missing(f"no virtual machine for {platform.machine()}: run on a kernel that has VTI, as root")
    with locked("parts"):
        if not shutil.which("qemu-system-x86_64") or not shutil.which("modprobe"):
            debian.install(PACKAGES)
        return Parts(_folder())


def _folder() -> Path:
    """The folder of the kernel that apt has now; of one we have from before where that cannot be had."""
    kept = sorted(cache().glob(f"linux-image-*-{LAYOUT}"), key=lambda path: path.stat().st_mtime)
    try:
        package = debian.dependency(KERNEL, "linux-image-")
        if package is None or not _place(package).is_dir():
            debian.update()
            package = debian.dependency(KERNEL, "linux-image-")
        if package is None:
            raise debian.Missing(f"apt knows no package {KERNEL}: run on Debian, or as root on a kernel that has VTI")
        if not _place(package).is_dir():
            print(f"preparing {package} for virtual machines, in {_place(package)}", flush=True)
            _build(package, _place(package))
        return _place(package)
    except debian.Missing as problem:
        if not kept:
            raise
        print(f"{problem}\ngoing on with {kept[-1].name}, which is in the cache", flush=True)
        return kept[-1]


def _place(package: str) -> Path:
    return cache() / f"{package}-{LAYOUT}"


def _build(package: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        work = Path(name) / "parts"
        work.mkdir()
        debian.unpack(package, work / "tree")
        debian.unpack("busybox-static", work / "busybox")
        (image,) = (work / "tree/boot").glob("vmlinuz-*")
        version = image.name[len("vmlinuz-") :]
        subprocess.run(["depmod", "-b", str(work / "tree"), version], check=True)
        (work / "kernel").write_bytes(_unpacked(image.read_bytes()))
        modules = _early(work / "tree", version)
        (work / "early").write_text(" ".join(modules))
        (work / "initramfs").write_bytes(_initramfs(work / "busybox/bin/busybox", modules))
        work.rename(folder)


def _unpacked(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage, which spares the emulated processor from unpacking it; else the bzImage."""
    start = image.find(b"\xfd7zXZ\x00")
    if start >= 0:
        return lzma.LZMADecompressor().decompress(image[start:])
    return image


def _early(tree: Path, version: str) -> dict[str, bytes]:
    """The modules that reach the root file system, what they need first."""
    found: dict[str, bytes] = {}
    for module in EARLY:
        command = ["modprobe", "-d", str(tree), "-S", version, "--show-depends", module]
        for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
            words = line.split()
            if words[0] == "insmod":
                path = Path(words[1])
                found[path.name.split(".")[0]] = _decompressed(path)
    return found


def _decompressed(module: Path) -> bytes:
    data = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(data)
    if module.suffix == ".gz":
        return gzip.decompress(data)
    return data


def _initramfs(busybox: Path, modules: dict[str, bytes]) -> bytes:
    archive = Archive()
    for folder in ("bin", "modules", "proc", "dev", "sys", "host", "top", "root", "guest"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    for name, data in modules.items():
        archive.file(f"modules/{name}.ko", data)
    return archive.finished()
