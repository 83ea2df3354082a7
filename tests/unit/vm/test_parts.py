"""How releases pack their kernels, and what apt says of packages."""

from __future__ import annotations

import lzma
import zlib
from pathlib import Path
from typing import Callable

import pytest

from tests.vm import debian, parts

ONE = {
    "linux-image-amd64": "linux-image-amd64\n  Depends: linux-image-6.1.0-57-amd64\n",
    "linux-image-6.1.0-57-amd64": "linux-image-6.1.0-57-amd64\n  PreDepends: linux-base\n  Depends: kmod\n |Depends: dracut\n",
}
SPLIT = {
    "linux-image-amd64": "linux-image-amd64\n  Depends: linux-base-amd64\n  Depends: linux-image-7.2.13+deb14-amd64\n",
    "linux-image-7.2.13+deb14-amd64": """linux-image-7.2.13+deb14-amd64
  PreDepends: linux-base
 |Depends: dracut
  Depends: <linux-initramfs-tool>
    dracut
  Depends: linux-base-7.2.13+deb14-amd64
  Depends: linux-binary-7.2.13+deb14-amd64
  Depends: linux-modules-7.2.13+deb14-amd64
  Breaks: initramfs-tools
  Recommends: apparmor
""",
}


@pytest.mark.parametrize(
    ("said", "packages"),
    [
        (ONE, ["linux-image-6.1.0-57-amd64"]),
        (SPLIT, [f"linux-{part}-7.2.13+deb14-amd64" for part in ("image", "base", "binary", "modules")]),
        ({}, []),
        ({"linux-image-amd64": ONE["linux-image-amd64"]}, ["linux-image-6.1.0-57-amd64"]),
    ],
)
def test_a_kernel_is_its_image_and_what_it_is_split_in(said: dict[str, str], packages: list[str]) -> None:
    assert parts.kernel_packages(lambda package: debian.dependencies(said.get(package, ""))) == packages


def test_what_a_package_depends_on_is_read_with_alternatives_and_without_virtual_ones() -> None:
    text = "a\n  PreDepends: b\n |Depends: c\n  Depends: d\n  Depends: <e>\n    c\n  Suggests: f\n  Breaks: g\n"
    assert debian.dependencies(text) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("modules", "image", "version"),
    [
        ("lib/modules/6.1.0-57-amd64", "boot/vmlinuz-6.1.0-57-amd64", "6.1.0-57-amd64"),
        ("usr/lib/modules/6.12.117+deb13-amd64", "boot/vmlinuz-6.12.117+deb13-amd64", "6.12.117+deb13-amd64"),
        ("usr/lib/modules/7.2.13+deb14-amd64", "usr/lib/modules/7.2.13+deb14-amd64/vmlinuz", "7.2.13+deb14-amd64"),
    ],
)
def test_image_and_modules_are_found_where_a_release_has_them(modules: str, image: str, version: str, tmp_path: Path) -> None:
    (tmp_path / modules / "kernel").mkdir(parents=True)
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / image).write_text("an image")
    (tmp_path / "usr/share/doc").mkdir(parents=True)
    found, path = parts.laid_out(tmp_path)
    assert (found, path.read_text()) == (version, "an image")
    for place in ("lib/modules", "usr/lib/modules"):
        assert (tmp_path / place / version / "kernel").is_dir()


@pytest.mark.parametrize("images", [[], ["boot/vmlinuz-1", "boot/vmlinuz-2"]])
def test_none_or_two_images_are_said(images: list[str], tmp_path: Path) -> None:
    (tmp_path / "lib/modules/1").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    for image in images:
        (tmp_path / image).touch()
    with pytest.raises(debian.Missing, match=f"{len(images)} images"):
        parts.laid_out(tmp_path)


ELF = b"\x7fELF and what is behind it" * 40


def packed(payload: bytes) -> bytes:
    """A bzImage whose second part, of two sectors, has the payload 16 bytes from its start."""
    behind = len(ELF).to_bytes(4, "little")
    head = bytearray(3 * 512 + 16)
    head[0x1F1] = 2
    head[0x248:0x24C] = (16).to_bytes(4, "little")
    head[0x24C:0x250] = len(payload + behind).to_bytes(4, "little")
    return bytes(head) + payload + behind + b"what follows"


def gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("pack", [lzma.compress, gzip])
def test_the_kernel_inside_an_image_is_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert parts.unpacked(packed(pack(ELF))) == ELF


def test_what_zstd_packed_is_given_to_its_program_without_the_size_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "zstd"
    program.write_text('#!/bin/sh\n[ "$1" = -dcq ] && exec tail -c +5\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert parts.unpacked(packed(parts.ZSTD + ELF)) == ELF


def test_an_image_packed_otherwise_boots_as_it_is() -> None:
    image = packed(b"\x02\x21\x4c\x18 lz4, which Python does not know")
    assert parts.unpacked(image) == image


@pytest.mark.parametrize(
    ("targets", "addresses"),
    [
        ("Packages Debian bookworm main http://mirror.example/debian/\n", ["http://mirror.example/debian/"]),
        (
            "Packages Debian bookworm-security main http://mirror.example/security/\n"
            "Packages Other Project stable main http://other.example/\n"
            "Packages Other bookworm main http://other.example/\n"
            "Translation Debian bookworm main http://wrong.example/\n"
            "Packages Debian bookworm contrib http://wrong.example/\n"
            "Packages Debian trixie main http://mirror.example/debian/\n",
            ["http://mirror.example/debian/"],
        ),
        ("Packages Ubuntu noble main http://other.example/\n", []),
        ("", []),
    ],
)
def test_the_mirror_is_the_one_that_apt_has_debian_itself_from(targets: str, addresses: list[str]) -> None:
    assert debian.mirrors(targets) == addresses
