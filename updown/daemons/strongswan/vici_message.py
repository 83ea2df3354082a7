"""Messages of strongSwan's vici, as bytes and as dictionaries (its src/libcharon/plugins/vici/README.md). Pure.

A message is a row of elements: sections, key-values and lists."""

from __future__ import annotations

import struct

Message = dict[str, object]
"""A section: text, lists of text, and sections, by name."""

DEEPEST = 16  # sections in one another; charon's own answers have four

SECTION, SECTION_END, KEY, LIST, ITEM, LIST_END = range(1, 7)


class Silence(Exception):
    """No answer, or none that can be read; the text says why."""


def short(name: str) -> bytes:
    """A name with its length, one byte."""
    coded = name.encode("utf-8", "surrogateescape")
    return bytes([len(coded)]) + coded


def key_value(name: str, value: str) -> bytes:
    """A key-value element."""
    coded = value.encode("utf-8", "surrogateescape")
    return bytes([KEY]) + short(name) + struct.pack(">H", len(coded)) + coded


class _Reader:
    """Takes names and values off a message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise Silence("a malformed message")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def name(self) -> str:
        return self.take(self.take(1)[0]).decode("utf-8", "surrogateescape")

    def value(self) -> str:
        (length,) = struct.unpack(">H", self.take(2))
        return self.take(length).decode("utf-8", "surrogateescape")


def parse(data: bytes) -> Message:
    """A message as a dictionary. Raises Silence for bytes that are none."""
    reader = _Reader(data)
    top: Message = {}
    open_sections = [top]
    items: list[str] | None = None
    while reader.position < len(data):
        kind = reader.take(1)[0]
        if kind == ITEM and items is not None:
            items.append(reader.value())
        elif kind == LIST_END and items is not None:
            items = None
        elif items is not None:
            raise Silence("a malformed message")
        elif kind == SECTION and len(open_sections) <= DEEPEST:
            inner: Message = {}
            open_sections[-1][reader.name()] = inner
            open_sections.append(inner)
        elif kind == SECTION_END and len(open_sections) > 1:
            open_sections.pop()
        elif kind == KEY:
            name = reader.name()
            open_sections[-1][name] = reader.value()
        elif kind == LIST:
            items = []
            open_sections[-1][reader.name()] = items
        else:
            raise Silence("a malformed message")
    if len(open_sections) > 1 or items is not None:
        raise Silence("a message that breaks off")
    return top
