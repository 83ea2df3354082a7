"""SAs as the kernel would show them, for what is counted from them."""

from typing import Optional

import pytest

from tests.kit.machine import EAST, WEST, Machine
from updown.concerns.mtu import ESP, TUNNEL
from updown.kernel import path_mtu as sa_room
from updown.model.ipsec import Sa, State

GCM = Sa(ESP, TUNNEL, 4, "rfc4106(gcm(aes))", 16)
CBC = Sa(ESP, TUNNEL, 4, "cbc(aes)", 16)
NULL = Sa(ESP, TUNNEL, 4, "ecb(cipher_null)", 12)


class Sas:
    """The SA that the kernel would show."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.found: Optional[State] = State(WEST, EAST, 0x1001, 1, GCM)
        self.asked = 0
        monkeypatch.setattr(sa_room, "outgoing_sa", self.find)

    def find(self, _context: object) -> Optional[State]:
        self.asked += 1
        return self.found

    def use(self, sa: Sa) -> None:
        self.found = State(WEST, EAST, 0x1001, 1, sa)
