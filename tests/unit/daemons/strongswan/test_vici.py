"""Our vici client against a charon of our own making, and against bytes that are no vici at all."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updown.daemons.answer import ABSENT, ANSWERED, SILENT, ChildSa
from updown.daemons.strongswan import vici
from updown.daemons.strongswan.vici import Session, children_in
from updown.daemons.strongswan.vici_message import Silence, parse

CHILD = {
    "name": "net",
    "uniqueid": "12",
    "reqid": "3",
    "state": "INSTALLED",
    "mode": "TUNNEL",
    "spi-in": "c3d2a7f1",
    "spi-out": "c0ffee01",
    "mark-in": "0000002a",
    "mark-out": "2b",
    "mark-mask-out": "ff",
    "if-id-in": "0000000b",
    "if-id-out": "0000000c",
    "local-ts": ["10.1.0.0/24"],
    "remote-ts": ["10.2.0.0/24", "10.3.0.0/24[tcp/443]"],
}
SA = {
    "home": {
        "uniqueid": "7",
        "version": "2",
        "state": "ESTABLISHED",
        "local-host": "198.51.100.1",
        "remote-host": "2001:DB8::2",
        "local-id": "west.example",
        "remote-id": "C=CH, CN=east",
        "child-sas": {"net-12": CHILD, "net-13": {**CHILD, "state": "DELETED"}, "odd": "text"},
    }
}
THEIRS = ("10.2.0.0/24", "10.3.0.0/24")
IDS = ("west.example", "C=CH, CN=east")
ENDS = ("198.51.100.1", "2001:db8::2")
WANTED = ChildSa("strongswan", "net", *ENDS, 0xC3D2A7F1, 0xC0FFEE01, 3, 7, 0x2A, 0x2B, 0xB, 0xC, THEIRS, IDS, True)


def encode(message: dict[str, Any]) -> bytes:
    out = b""
    for name, value in message.items():
        short = bytes([len(name)]) + name.encode()
        if isinstance(value, dict):
            out += b"\x01" + short + encode(value) + b"\x02"
        elif isinstance(value, list):
            items = b"".join(b"\x05" + struct.pack(">H", len(item)) + item.encode() for item in value)
            out += b"\x04" + short + items + b"\x06"
        else:
            out += b"\x03" + short + struct.pack(">H", len(value)) + value.encode()
    return out


def packet(kind: int, name: str = "", message: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name.encode() if kind in (0, 3, 7) else b""
    body = bytes([kind]) + named + message
    return struct.pack(">I", len(body)) + body


EVENT = packet(7, "list-sa", encode(SA))


class Charon:
    """Takes one connection and answers every packet it gets with the next of its replies."""

    def __init__(self, path: Path, replies: list[bytes]) -> None:
        self.asked: list[bytes] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.replies = replies
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection, suppress(ConnectionError):
            for reply in self.replies:
                (length,) = struct.unpack(">I", connection.recv(4))
                self.asked.append(connection.recv(length))
                for at in range(0, len(reply), 7):  # in pieces: a stream has no packets
                    connection.send(reply[at : at + 7])
            if self.replies:
                connection.recv(1)


@pytest.fixture
def charon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Charon]]:
    path = tmp_path / "vici"
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {os.getpid(): 17})
    monkeypatch.setattr(vici, "SOCKETS", ("/nonexistent", str(path)))
    made: list[Charon] = []

    def make(*replies: bytes) -> Charon:
        made.append(Charon(path, list(replies)))
        return made[0]

    yield make
    for one in made:
        one.socket.close()


def test_children_are_listed_without_blocking(charon: Callable[..., Charon]) -> None:
    server = charon(packet(5), EVENT + EVENT + packet(1), packet(1, message=encode({"ikesas": {"total": "2"}})))
    said = vici.ask()
    assert said.whole
    assert (said.state, said.since, said.children) == (ANSWERED, 17, (WANTED, WANTED))
    listing = [b"\x03\x07list-sa", b"\x00\x08list-sas" + encode({"noblock": "yes"})]
    assert server.asked == [*listing, b"\x00\x05stats"]


@pytest.mark.parametrize("stats", [packet(1, message=encode({"ikesas": {"total": "3"}})), packet(2)], ids=["3", "none"])
def test_an_answer_that_left_something_out_is_not_whole(charon: Callable[..., Charon], stats: bytes) -> None:
    charon(packet(5), EVENT + EVENT + packet(1), stats)
    said = vici.ask()
    assert (said.state, len(said.children), said.whole) == (ANSWERED, 2, False)


def test_nobody_up(charon: Callable[..., Charon]) -> None:
    charon(packet(5), packet(1))
    assert vici.ask().children == ()


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ([packet(6)], "charon has no event list-sa"),
        ([packet(5), packet(2)], "charon does not know list-sas"),
        ([packet(5), packet(1, message=encode({"success": "no", "errmsg": "busy"}))], "list-sas: busy"),
        ([packet(5), packet(7, "list-sa", b"\x03")], "a malformed message"),
        ([struct.pack(">I", 1 << 30)], "a packet of 1073741824 bytes"),
        ([packet(5)[:3]], "no answer in 0.5 s"),
    ],
)
def test_silence_is_told(
    charon: Callable[..., Charon], monkeypatch: pytest.MonkeyPatch, replies: list[bytes], why: str
) -> None:
    monkeypatch.setattr(vici, "Session", lambda path: Session(path, 0.5))
    charon(*replies)
    said = vici.ask()
    assert said.state == SILENT
    assert said.why.endswith(why)


def test_what_is_read_is_bounded_however_long_it_goes_on(
    charon: Callable[..., Charon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vici, "MOST", 5 * len(EVENT))
    charon(packet(5), EVENT * 50)
    said = vici.ask()
    assert (said.state, said.children) == (SILENT, ())
    assert said.why.endswith(f"it sent more than {5 * len(EVENT)} bytes")


def test_waiting_is_bounded_however_slowly_it_answers(tmp_path: Path) -> None:
    """Each byte comes in time; all of them together do not."""
    path = tmp_path / "vici"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    over = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            for byte in packet(5) + EVENT:
                connection.send(bytes([byte]))
                if over.wait(0.1):
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Silence, match=r"no answer in 0\.7 s"), Session(str(path), 0.7) as session:
        session.listed("list-sas", "list-sa", {})
    assert time.monotonic() - began < 3
    over.set()
    thread.join()
    listener.close()


def test_no_process_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {})
    assert vici.ask().state == ABSENT


def test_of_two_charons_none_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {9: 1, 4: 2})
    assert vici.ask().why == "2 processes of charon run here (4, 9), and one alone can be asked"


def test_a_charon_without_vici_is_silent(charon: Callable[..., Charon]) -> None:  # noqa: ARG001
    said = vici.ask()
    assert said.state == SILENT
    assert "vici plugin" in said.why


def test_messages() -> None:
    assert parse(encode(SA)) == SA
    assert children_in(parse(encode(SA))) == [WANTED]
    assert children_in({"home": {"child-sas": {"net-1": {"name": "n", "state": "INSTALLED"}}}})[0].reqid == 0


@pytest.mark.parametrize("number", ["4294967296", "-1", "1_0", " 1", "+1", "1" * 60_000, "", ["1"], {"a": "1"}])
def test_what_is_no_number_of_32_bits_is_none(number: object) -> None:
    child = {**CHILD, **dict.fromkeys(("reqid", "spi-in", "mark-in", "if-id-out"), number)}
    (found,) = children_in({"home": {**SA["home"], "uniqueid": number, "child-sas": {"net-12": child}}})
    assert found == WANTED._replace(reqid=0, spi_in=0, mark_in=0, if_id_out=0, unique_id=0)


@pytest.mark.parametrize("odd", [["net"], {"net": "net"}, ""])
def test_what_is_no_text_is_no_name_and_no_identity(odd: object) -> None:
    assert children_in({"home": {**SA["home"], "child-sas": {"net-12": {**CHILD, "name": odd}}}}) == []
    (found,) = children_in({"home": {**SA["home"], "remote-id": odd, "remote-host": odd}})
    assert found == WANTED._replace(peer="", ids=("west.example", ""))


def test_sections_in_sections_have_an_end() -> None:
    """A packet of vici's largest size with nothing else would be 250,000 of them."""
    assert parse(b"\x01\x01a" * 16 + b"\x02" * 16)
    with pytest.raises(Silence, match="malformed"):
        parse(b"\x01\x01a" * 17 + b"\x02" * 17)


def test_what_is_no_section_is_no_ike_sa(charon: Callable[..., Charon]) -> None:
    odd = packet(7, "list-sa", encode({**SA, "note": "text", "more": ["text"]}))
    charon(packet(5), odd + packet(1), packet(1, message=encode({"ikesas": {"total": "1"}})))
    said = vici.ask()
    assert (said.state, said.whole) == (ANSWERED, True)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200, database=None)
def test_whatever_the_bytes_only_silence_is_raised(data: bytes) -> None:
    try:
        children_in(parse(data))
    except Silence:
        return
