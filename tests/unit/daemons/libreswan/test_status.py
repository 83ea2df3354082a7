"""What whack prints, as libreswan 4.10 printed it in a guest, and as 5.x prints it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from updown.daemons.answer import ABSENT, ANSWERED, SILENT, ChildSa
from updown.daemons.libreswan import status
from updown.daemons.libreswan.status import read

STATES = """\
000 #1: "p":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28043s; REPLACE in 28761s; newest; idle;
000 #2: "p":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28065s; newest; eroute owner; IKE SA #1;
000 #2: "p" esp.74d1ca6f@198.51.100.2 esp.dd642581@198.51.100.1 tun.0@198.51.100.2 tun.0@198.51.100.1 Traffic: ESPin=0B
000 #4: "s/1x0" esp.3c978da8@198.51.100.2 esp.bfc07add@198.51.100.1 tun.0@198.51.100.2 tun.0@198.51.100.1 Traffic: \
ESPin=0B ESPout=0B ESPmax=2^63B
000 #27: "r"[1] 60.191.89.26:4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); newest; IKE SA #25; idle;
000 #27: "r"[1] 60.191.89.26 esp.8be5db37@60.191.89.26 esp.d7b50df@198.51.100.1 tun.0@60.191.89.26 tun.0@198.51.100.1
000 #28: "six" ah.1@2001:DB8::2 ah.2@2001:db8::1 tun.0@2001:db8::2 tun.0@2001:db8::1 Traffic: AHin=0B

"""
STATUS = """\
000 using kernel interface: xfrm
000 config setup options:
000 "od": 10.1.1.0/24===198.51.100.1...198.51.100.2===10.2.1.0/24; prospective erouted; eroute owner: #0
000 "od":     oriented; my_ip=unset; their_ip=unset; my_updown=/usr/libexec/vti-updown -v;
000 "od":   policy: IKEv2+PSK+ENCRYPT+TUNNEL+PFS+IKE_FRAG_ALLOW+ESN_NO+ESN_YES;
000 "od":   nflog-group: unset; mark: 7/0xffffffff, 7/0xffffffff; vti-iface:vti7; vti-routing:yes; vti-shared:yes;
000 "p": 10.1.0.0/24===198.51.100.1...198.51.100.2===10.2.0.0/24; erouted; eroute owner: #2
000 "p":     oriented; my_ip=unset; their_ip=unset; my_updown=/usr/libexec/vti-updown;
000 "p":   nflog-group: unset; mark: 5/0xffffffff, 5/0xffffffff; vti-iface:vti5; vti-routing:yes; vti-shared:no;
000 "wish": 10.1.0.0/24===198.51.100.1...198.51.100.2===10.9.0.0/24; unrouted; eroute owner: #0
000 "wish":   policy: IKEv2+PSK+ENCRYPT+TUNNEL+PFS+UP+IKE_FRAG_ALLOW+ESN_NO+ESN_YES;
000 "r": 10.1.0.0/24===198.51.100.1...%any===10.2.0.0/24; unrouted; eroute owner: #0
000 "r":   nflog-group: unset; mark: unset; vti-iface:unset; vti-routing:no; vti-shared:no;
000 "r"[1]: 10.1.0.0/24===198.51.100.77...60.191.89.26===10.2.0.0/24; erouted; eroute owner: #27
000 "r"[1]:     oriented; my_ip=unset; their_ip=unset; my_updown=ipsec _updown;
000 Total IPsec connections: loaded 5, active 3
000
000 State Information: DDoS cookies not required, Accepting new IKE connections
000 IKE SAs: total(1), half-open(0), open(0), authenticated(1), anonymous(0)
000 IPsec SAs: total(4), authenticated(4), anonymous(0)
000
"""
WHOLE = STATUS + STATES
FIVE = """\
using kernel interface: xfrm
"t": 192.0.1.0/24===192.1.2.45[@west]...192.1.2.23[@east]===192.0.2.0/24; routed-ondemand; my_ip=unset; their_ip=unset;
"t":   host: oriented; local: 192.1.2.45; remote: 192.1.2.23;
"t":   my_updown=ipsec _updown;
"u": 192.0.1.0/24===192.1.2.45[@west]...192.1.2.23[@east]===192.0.3.0/24; unrouted; my_ip=unset; their_ip=unset;
Total IPsec connections: loaded 2, routed 1, active 0
IPsec SAs: total(0), authenticated(0), anonymous(0)
"""


def test_children_with_ends_and_spis() -> None:
    said = read(WHOLE, 17)
    assert (said.state, said.since) == (ANSWERED, 17)
    one = ChildSa("libreswan", "p", "198.51.100.1", "198.51.100.2", 0xDD642581, 0x74D1CA6F, wants_device=True)
    assert said.children[0] == one._replace(device="vti5", calls_us=True)
    assert [(child.connection, child.peer, child.spi_in) for child in said.children[1:]] == [
        ("s/1x0", "198.51.100.2", 0xBFC07ADD),
        ("r", "60.191.89.26", 0xD7B50DF),
        ("six", "2001:db8::2", 2),
    ]
    assert [child.wants_device for child in said.children] == [True, False, False, False]
    assert [child.calls_us for child in said.children] == [True, None, False, None]


def test_connections_on_demand_or_wished_up_are_held() -> None:
    said = read(WHOLE)
    assert said.held == ("od", "p", "wish", "r")
    assert said.loaded == ("od", "p", "wish", "r")


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("10.1.1.0/24===198.51.100.1...198.51.100.2===10.2.1.0/24", "198.51.100.1"),
        ("198.51.100.1[@west]...198.51.100.2[@east]", "198.51.100.1"),
        ("198.51.100.1<198.51.100.1>[@west]---198.51.100.254...198.51.100.2", "198.51.100.1"),
        ("fd00:1::/64===2001:db8:0:1:0::1[C=x, CN=a===b]...2001:db8::2===fd00:2::/64", "2001:db8:0:1::1"),
        ("10.1.1.0/24===%any...198.51.100.2===10.2.1.0/24", ""),
    ],
)
def test_our_end_of_what_is_held(line: str, end: str) -> None:
    """With names and next hops, as both versions print them."""
    ends = "10.1.1.0/24===198.51.100.1...198.51.100.2===10.2.1.0/24"
    assert read(WHOLE.replace(f'"od": {ends}', f'"od": {line}')).ends.get("od", "") == end


def test_the_end_of_a_connection_that_pluto_finds_not_on_this_machine_is_not_known_to_be_ours() -> None:
    assert read(WHOLE).ends == {"od": "198.51.100.1", "p": "198.51.100.1", "r": "198.51.100.1"}
    assert read(FIVE).ends == {"t": "192.1.2.45"}
    assert read(WHOLE.replace("    oriented;", "    unoriented;")).ends == {}


def test_five_prints_no_number_before_a_line() -> None:
    assert read(WHOLE.replace("000 ", "").replace("STATE_V2_ESTABLISHED", "ESTABLISHED")) == read(WHOLE)
    assert read(FIVE).held == ("t",)
    assert read(FIVE).loaded == ("t", "u")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no number of IPsec SAs"),
        ('000 #2: "p', "no number of IPsec SAs"),
        ("IPsec SAs: total(0)", "no number of connections"),
        (WHOLE.replace("000 #", "000 state "), "of 4 IPsec SAs 0 could be read"),
        (WHOLE.replace("total(4)", "total(5)"), "of 5 IPsec SAs 4 could be read"),
        (WHOLE.replace('000 "', "000 conn "), "of 5 connections 0 could be read"),
    ],
)
def test_what_is_not_understood_is_a_silence(text: str, why: str) -> None:
    said = read(text)
    assert (said.state, said.children) == (SILENT, ())
    assert said.why == f"whack --status: {why}; please report this libreswan"


@pytest.mark.parametrize("text", ["\x00\udcff", '000 "p" ; ;', '"a" esp.@ esp.@', '#1: "'])
def test_odd_lines_are_passed_over(text: str) -> None:
    assert read(f"{text}\n{WHOLE}") == read(WHOLE)


CASES = Path(__file__).parents[3] / "cases/robustness"
HOSTILE = CASES / "01-pluto-status-id"
FIVE_TWO = CASES / "02-pluto-5.2-status"
ENDS6 = ("2001:db8:0:1::1", "2001:db8:0:1::2")


@pytest.mark.parametrize(
    ("file", "ends", "spis"),
    [
        ("v4", ("198.51.100.1", "198.51.100.2"), (0x709E562C, 0xF1931D91)),
        ("v4-rekeyed", ("198.51.100.1", "198.51.100.2"), (0x4655EBA0, 0x328F7265)),
        ("v4-ike-rekeyed", ("198.51.100.1", "198.51.100.2"), (0x4655EBA0, 0x328F7265)),
        ("v6", ENDS6, (0xA8BA0FE0, 0x884462F1)),
        ("v6-rekeyed", ENDS6, (0x82121722, 0xF6378B90)),
        ("v6-routed", ENDS6, (0x82121722, 0xF6378B90)),
    ],
)
def test_five_two_with_a_colon_before_ipv6(file: str, ends: tuple[str, str], spis: tuple[int, int]) -> None:
    said = read((FIVE_TWO / f"status-{file}.txt").read_text())
    assert (said.state, said.unread, said.held, said.ends) == (ANSWERED, (), ("t",), {"t": ends[0]})
    assert said.children == (ChildSa("libreswan", "t", *ends, *spis, device="vti5", calls_us=False),)


def test_five_two_with_nothing_up() -> None:
    said = read((FIVE_TWO / "status-v6-down.txt").read_text())
    assert (said.state, said.children, said.held, said.loaded) == (ANSWERED, (), ("t",), ("t",))


def test_an_id_is_no_child_no_total_and_no_routing() -> None:
    said = read((HOSTILE / "status.txt").read_text())
    assert (said.state, said.children, said.held, said.unread) == (ANSWERED, (), (), ())
    assert said.loaded == ("r",)
    said = read((HOSTILE / "status-rw.txt").read_text())
    assert (said.state, said.children, said.held, said.ends) == (ANSWERED, (), ("r",), {"r": "198.51.100.66"})


@pytest.mark.parametrize(
    "line",
    [
        '000 #2: "p"[1] 198.51.100.2 used 5s ago; esp.1@198.51.100.2 esp.2@198.51.100.1 tun.0@198.51.100.2 Traffic: ',
        '#2: "p" ah.1@198.51.100.2 ah.2@198.51.100.1 esp.3@198.51.100.2 esp.4@198.51.100.1 Traffic:',
        '#2: "p"[1] 10.1.0.0/24=== ...198.51.100.2===? esp.1@198.51.100.2 esp.2@198.51.100.1 Traffic:',
        '#2: "p" esp.1@198.51.100.2 esp.2@198.51.100.1 Traffic: ESPin=0B username="p" esp.8@9.9.9.9 esp.2@9.9.9.9 x',
        '#2: "p"[7] <ip address> esp.1@198.51.100.2 esp.2@198.51.100.1',
    ],
)
def test_what_stands_around_the_spis(line: str) -> None:
    """programs/pluto/state.c show_established_child_details, connections.c jam_connection_instance; log-ip=no."""
    said = read(WHOLE.replace("total(4)", "total(5)") + line)
    assert (said.state, said.unread) == (ANSWERED, ())
    child = ChildSa("libreswan", "p", "198.51.100.1", "198.51.100.2", 2, 1, device="vti5")
    assert said.children[-1] == child._replace(wants_device=True, calls_us=True)


def test_a_child_that_cannot_be_read_blinds_for_its_own_connection_alone() -> None:
    said = read(WHOLE.replace(" esp.8be5db37", " esp?8be5db37"))
    assert (said.state, said.unread) == (ANSWERED, ("r",))
    assert said.children == tuple(child for child in read(WHOLE).children if child.connection != "r")
    assert (said.held, said.ends) == (read(WHOLE).held, read(WHOLE).ends)
    said = read(WHOLE.replace(" esp.", " esp=").replace(" ah.", " ah="))
    assert (said.state, said.children, said.unread, said.held) == (ANSWERED, (), ("p", "s/1x0", "r", "six"), read(WHOLE).held)


def test_a_connection_whose_topology_cannot_be_read_counts_as_held() -> None:
    said = read(FIVE.replace("my_ip", "ip"))
    assert (said.state, said.held) == (ANSWERED, ("t", "u"))
    said = read(FIVE.replace("192.0.3.0/24; unrouted;", "192.0.3.0/24; unrouted; "))
    assert (said.state, said.held) == (ANSWERED, ("t", "u"))


def test_a_line_ends_where_pluto_ends_it() -> None:
    """Python takes more for the end of a line."""
    for end in ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"):
        forged = f'[@x{end}"od": 10.1.1.0/24===9.9.9.9...9.9.9.8; erouted; eroute owner: #1{end}IPsec SAs: total(99){end}]'
        assert read(WHOLE.replace("===198.51.100.77...", f"===198.51.100.77{forged}...")) == read(WHOLE)


def script(folder: Path, text: str) -> str:
    path = folder / "whack"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {4711: 99})
    monkeypatch.setattr(status, "PID_FILE", "/nonexistent")


@pytest.mark.usefixtures("running")
def test_whack_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"import sys; print({{'--status': {WHOLE!r}}}[sys.argv[1]])"
    monkeypatch.setattr(status, "WHACK", ("/nonexistent", script(tmp_path, text)))
    assert status.ask() == read(WHOLE, 99)


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import time; time.sleep(60)", "whack --status: no answer in 0.3 s"),
        ("import os, time; os.closerange(0, 3); time.sleep(60)", "whack --status: it did not end in 4 s"),
        ("import time\nwhile True: print('x', flush=True) or time.sleep(0.05)", "whack --status: no answer in 0.3 s"),
        ("import os\nwhile True: os.write(1, b'x' * 65536)", "whack --status: it printed more than 33554432 bytes"),
        ("import os\nwhile True: os.write(2, b'x' * 65536)", "whack --status: it printed more than 33554432 bytes"),
        ("import sys; sys.exit('whack: is Pluto running?')", "whack --status: whack: is Pluto running?"),
        ("import sys; sys.exit(33)", "whack --status: status 33"),
    ],
)
def test_silence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    starts = "closerange" in text  # the script has to come so far, however slow the machine is
    monkeypatch.setattr(status, "ANSWER_SECONDS", 4 if starts else 0.3 if "sleep" in text else 20)
    monkeypatch.setattr(status, "WHACK", (script(tmp_path, text),))
    said = status.ask()
    assert (said.state, said.why, said.since) == (SILENT, why, 99)


def test_without_a_process_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {})
    monkeypatch.setattr(subprocess, "Popen", never)
    assert status.ask().state == ABSENT


@pytest.mark.usefixtures("running")
def test_another_namespace_s_pluto_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pid").write_text("17\n")
    monkeypatch.setattr(status, "PID_FILE", str(tmp_path / "pid"))
    said = status.ask()
    assert said.state == SILENT
    assert "names process 17, which is not in this network namespace" in said.why


def test_of_two_plutos_none_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updown.daemons.answer.processes", lambda _: {9: 1, 4: 2})
    said = status.ask()
    assert (said.state, said.since) == (SILENT, 2)
    assert said.why == "2 processes of pluto run here (4, 9), and one alone can be asked"
