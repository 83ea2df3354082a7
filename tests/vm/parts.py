"""What a guest boots from: a release's kernel, its modules and an initramfs, kept in a cache by kernel version."""

from __future__ import annotations

import lzma
import platform
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.vm import cache, debian
from tests.vm.cpio import Archive
from tests.vm.releases import Release

KERNEL = "linux-image-amd64"
PACKAGES = ("qemu-system-x86", "kmod")
SPLIT = "linux-"  # how the packages begin that a kernel may be split in: linux-binary-VERSION, linux-modules-VERSION
EARLY = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
ZSTD = b"\x28\xb5\x2f\xfd"
LAYOUT = 2  # raise it when what a folder of the cache holds changes


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


def prepare(release: Release, archive: debian.Archive) -> Parts:
    """Have everything that a guest with this release's kernel needs; quick when it is there already."""
    if platform.machine() != "x86_64":
        raise debian.Missing(f"no virtual machine for {platform.machine()}: run on a kernel that has VTI, as root")
    with cache.locked("parts"):
        if not shutil.which("qemu-system-x86_64") or not shutil.which("modprobe"):
            debian.install(PACKAGES)
        return Parts(_folder(release, archive))


def _folder(release: Release, archive: debian.Archive) -> Path:
    """The folder of the kernel that apt has now; of one we have from before where that cannot be had."""
    start = f"kernel-{release.name}"
    kept = sorted(cache.folder().glob(f"{start}-linux-image-*-{LAYOUT}"), key=lambda path: path.stat().st_mtime)
    try:
        packages = kernel_packages(archive.depends)
        place = cache.folder() / "-".join([start, *packages[:1], str(LAYOUT)])
        if not packages or not place.is_dir():
            archive.update()
            packages = kernel_packages(archive.depends)
            place = cache.folder() / "-".join([start, *packages[:1], str(LAYOUT)])
        if not packages:
            raise debian.Missing(f"apt knows no package {KERNEL}: run on Debian, or as root on a kernel that has VTI")
        if not place.is_dir():
            print(f"preparing {packages[0]} for virtual machines, in {place}", flush=True)
            _build(archive, packages, place)
        return place
    except debian.Missing as problem:
        if not kept:
            raise
        print(f"{problem}\ngoing on with {kept[-1].name}, which is in the cache", flush=True)
        return kept[-1]


def kernel_packages(depends: Callable[[str], Sequence[str]]) -> list[str]:
    """The package of the newest kernel, and those that it is split in where it is; empty where there is none."""
    for image in depends(KERNEL):
        if image.startswith("linux-image-"):
            version = image[len("linux-image") :]
            return [image, *(part for part in depends(image) if part.startswith(SPLIT) and part.endswith(version))]
    return []


def _build(archive: debian.Archive, packages: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.folder()) as name:
        work = Path(name) / "parts"
        work.mkdir()
        for package in packages:
            archive.unpack(package, work / "tree")
        archive.unpack("busybox-static", work / "busybox")
        version, image = laid_out(work / "tree")
        subprocess.run(["depmod", "-b", str(work / "tree"), version], check=True)
        (work / "kernel").write_bytes(unpacked(image.read_bytes()))
        modules = _early(work / "tree", version)
        (work / "early").write_text(" ".join(modules))
        (busybox,) = [*(work / "busybox").glob("bin/busybox"), *(work / "busybox").glob("usr/bin/busybox")]
        (work / "initramfs").write_bytes(_initramfs(busybox, modules))
        work.rename(folder)


def laid_out(tree: Path) -> tuple[str, Path]:
    """The version of the kernel unpacked there and its image; the modules are below lib and usr/lib then.

    Debian 12 has lib/modules and boot/vmlinuz-VERSION, 13 usr/lib/modules, the next one the image beside them."""
    for name, target in (("lib", "usr/lib"), ("usr/lib", "../lib")):  # kmod looks in the one or the other
        if not (tree / name).exists():
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).symlink_to(target)
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("lib/modules/*/vmlinuz")]
    if len(images) != 1:
        raise debian.Missing(f"the kernel's packages have {len(images)} images in boot and lib/modules, and one is wanted")
    image = images[0]
    return image.name.partition("-")[2] or image.parent.name, image


def unpacked(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage, which spares the emulated processor from unpacking it; else the bzImage.

    Offset and length of the payload: the kernel's Documentation/arch/x86/boot.rst."""
    start = (image[0x1F1] + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = image[start : start + int.from_bytes(image[0x24C:0x250], "little")]
    return _decompressed(payload[:-4] if payload.startswith(ZSTD) else payload) or image  # the size is behind it


def _early(tree: Path, version: str) -> dict[str, bytes]:
    """The modules that reach the root file system, what they need first."""
    found: dict[str, bytes] = {}
    for module in EARLY:
        command = ["modprobe", "-d", str(tree), "-S", version, "--show-depends", module]
        for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
            words = line.split()
            if words[0] == "insmod":
                path = Path(words[1])
                data = path.read_bytes()
                found[path.name.split(".")[0]] = _decompressed(data) or data
    return found


def _decompressed(data: bytes) -> bytes:
    """What was packed by xz, gzip or zstd; empty for anything else."""
    if data.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x1f\x8b\x08"):
        return zlib.decompressobj(31).decompress(data)
    if data.startswith(ZSTD):
        if not shutil.which("zstd"):
            debian.install(["zstd"])
        return subprocess.run(["zstd", "-dcq"], check=True, input=data, stdout=subprocess.PIPE).stdout
    return b""


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
