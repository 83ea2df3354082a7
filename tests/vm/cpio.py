"""Write a cpio archive of the "newc" kind, the one the kernel unpacks as its first root file system."""

from __future__ import annotations

import stat


class Archive:
    """Collects entries; `finished()` gives the archive. Archives may be put one behind the other."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def folder(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def device(self, name: str, major: int, minor: int) -> None:
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finished(self) -> bytes:
        whole = b"".join([*self._parts, self._entry("TRAILER!!!", 0, b"", (0, 0))])
        return whole + b"\0" * (-len(whole) % 512)

    def _add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        self._parts.append(self._entry(name, mode, data, device))

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
        path = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + "".join(f"{number:08x}" for number in numbers).encode() + path
        head += b"\0" * (-len(head) % 4)
        return head + data + b"\0" * (-len(data) % 4)
