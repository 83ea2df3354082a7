"""What a device's section says beats the connection."""

from __future__ import annotations

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST6, THIRD, WEST, WEST6, Machine, Tunnel, call, establish, withdraw
from updown.model.errors import Refused

T = Tunnel()


def test_remote_any_gives_a_device_for_everyone(machine: Machine) -> None:
    machine.settings("[device vti5]\nremote = any\n")
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").remote == "0.0.0.0"
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


@pytest.mark.parametrize(
    ("tunnel", "text", "ends"),
    [
        (T, "local = 198.51.100.9\n", ("198.51.100.9", "0.0.0.0")),
        (T, f"local = 198.51.100.9\nremote = {THIRD}\n", ("198.51.100.9", THIRD)),
        (T, f"remote = {THIRD}\n", (WEST, THIRD)),
        (T._replace(shared="yes"), f"remote = {THIRD}\n", (WEST, THIRD)),
        (T._replace(shared="yes"), "mtu = 1400\n", (WEST, "0.0.0.0")),
        (T._replace(me=WEST6, peer=EAST6), "remote = any\n", (WEST6, "::")),
    ],
)
def test_ends_of_the_section_count(machine: Machine, tunnel: Tunnel, text: str, ends: tuple[str, str]) -> None:
    machine.settings(f"[device vti5]\n{text}")
    machine.send_all(establish(tunnel))
    link = machine.kernel.named("vti5")
    assert (link.local, link.remote) == ends


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mark = 7", "vti5: mark_in = 7 in the settings, but 5 in the tunnel: nothing would pass"),
        ("mark_out = 0x7", "vti5: mark_out = 7 in the settings, but 5 in the tunnel"),
        ("local = 2001:db8::1", "local = 2001:db8::1 in the settings, but the tunnel's ends are 198.51.100.1 and"),
        ("remote = 2001:db8::1", "remote = 2001:db8::1 in the settings, but the tunnel's ends are"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_done(machine: Machine, text: str, said: str) -> None:
    machine.settings(f"[device vti5]\n{text}\n")
    for verb in ("prepare", "up"):
        with pytest.raises(Refused) as refusal:
            machine.send(call(T, verb))
        assert refusal.value.text.startswith(said)
        assert refusal.value.hint
    assert machine.devices() == set()
    assert machine.claims() == []


def test_another_if_id_than_the_tunnel_s_is_refused(machine: Machine) -> None:
    machine.settings("[connection c]\ninterface = ipsec7\n[device ipsec7]\nif_id = 8\n")
    with pytest.raises(Refused, match="ipsec7: if_id = 8 in the settings, but 7 in the tunnel"):
        machine.send(charon_call(Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7"), "up"))


def test_equal_keys_are_taken(machine: Machine) -> None:
    machine.settings("[device vti5]\nmark = 5/0xff\n")
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").ikey == 5
