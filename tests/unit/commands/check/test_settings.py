"""`check --settings`: what the settings contradict, without root or kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from updown.commands.arguments import parse as words
from updown.commands.check.settings import check_files
from updown.hook import dispatch

CONTRADICTIONS = {
    "two families": (
        "[device d]\nlocal = 192.0.2.1\nremote = 2001:db8::1\n",
        ["f.conf:3: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "one by a pattern": (
        "[device *]\nlocal = 192.0.2.1\n[device d]\nremote = 2001:db8::1\n",
        ["f.conf:4: remote = 2001:db8::1 and local"],
    ),
    "the peer's outer address": (
        "[device d]\nlocal = 192.0.2.1\nremote = 192.0.2.2\naddress = 10.0.0.1/24 192.0.2.2/32\n",
        ["f.conf:4: address = 192.0.2.2/32 has the peer's outer address"],
    ),
    "a broadcast address": (
        "[device d]\naddress = 10.0.0.3/30\n",
        ["f.conf:2: address = 10.0.0.3/30: 10.0.0.3 is the broadcast"],
    ),
    "an if_id for a VTI": ("[device d]\nkind = vti\nif_id = 5\n", ["f.conf:3: if_id says nothing of d"]),
    "a mark for an XFRM interface": (
        "[device d]\nkind = xfrm\nif_id = 5\nmark = 5\n",
        ["f.conf:4: mark_in says nothing of d", "f.conf:4: mark_out says nothing of d"],
    ),
    "the same two ends": (
        "[device d]\nlocal = 192.0.2.1\nmark = 5\n[device e]\nlocal = 192.0.2.1\nremote = any\nmark = 6\n",
        ["f.conf:5: e and d would have the same two ends"],
    ),
    "the same if_id": ("[device d]\nif_id = 5\n[device e]\nif_id = 0x5\n", ["f.conf:4: e and d would have the same if_id"]),
    "two external interfaces": (
        "[device d]\nexternal = yes\n[device e]\nexternal = yes\n",
        ["f.conf:4: e and d would have every if_id"],
    ),
    "a rule without a table": (
        "[connection t]\nrule = fwmark 5\n",
        ["f.conf:2: rule needs table = NUMBER: the main table is where every packet looks"],
    ),
    "a rule without a table in a device's section": ("[device d]\nrule = fwmark 5\n", ["f.conf:2: rule needs table ="]),
    "a rule without a table for all": ("[defaults]\nrule = fwmark 5\n", ["f.conf:2: rule needs table ="]),
    "a rule of all, and one of two has a table": (
        "[defaults]\nrule = fwmark 5\n[connection t]\nmtu = 1400\n[connection u]\ntable = 5\n",
        ["f.conf:2: rule needs table ="],
    ),
    "a rule of all whose tables are those of connections": (
        "[defaults]\nrule = fwmark 5\n[connection t]\nvrf = blue\n[connection u*]\ntable = 5\n",
        [],
    ),
    "a rule of a pattern whose tables are those of names": (
        "[connection *]\nrule = fwmark 5\n[connection t]\ntable = 4\n[connection u]\ntable = 5\n",
        [],
    ),
    "a rule whose table the device has": ("[connection t]\ninterface = d\nrule = fwmark 5\n[device d]\ntable = 5\n", []),
    "a rule whose table a device may have": ("[connection t]\nrule = fwmark 5\n[device d]\ntable = 5\n", []),
    "a rule whose table another device has": (
        "[connection t]\ninterface = e{mark}\nrule = fwmark 5\n[device d]\ntable = 5\n",
        ["f.conf:3: rule needs table ="],
    ),
    "a device's rule whose table its connection has": (
        "[device d]\nrule = fwmark 5\n[connection t]\ninterface = d\ntable = 5\n",
        [],
    ),
    "a described device's rule, which `make` needs a table for": (
        "[device d]\nif_id = 5\nrule = fwmark 5\n[connection t]\ninterface = d\ntable = 5\n",
        ["f.conf:3: rule needs table ="],
    ),
    "an external interface by if_id": (
        "[connection t]\ninterface = ipsec{if_id}\nexternal = yes\n",
        ["f.conf:2: interface = ipsec{if_id}: an external interface is one for all if_ids"],
    ),
    "an external interface by if_id in two kinds of section": (
        "[defaults]\nexternal = yes\n[connection *]\ninterface = ipsec{if_id_in}\n",
        ["f.conf:4: interface = ipsec{if_id_in}: an external interface"],
    ),
    "a connection's two families": (
        "[connection t]\nlocal = 192.0.2.1\nremote = 2001:db8::1\n",
        ["f.conf:3: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "two families of a connection and its device": (
        "[connection t]\ninterface = d\nlocal = 192.0.2.1\n[device d]\nremote = 2001:db8::1\n",
        ["f.conf:5: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "a connection's end that its device has otherwise": (
        "[connection t]\ninterface = d\nlocal = 192.0.2.1\n[device d]\nlocal = 2001:db8::2\nremote = 2001:db8::1\n",
        [],
    ),
    "a connection too long for its device": (
        "[defaults]\ninterface = v{connection}.{mark}\n"
        "[connection thirteen-long]\nmtu = 1400\n[connection twelve-long.]\nmtu = 1400\n",
        ["f.conf:2: interface = v{connection}.{mark} gives vthirteen-long.1, where the daemon names none: a"],
    ),
    "one pair of a connection's subnets": ("[defaults]\ninterface = {connection}\n[connection net/1x1]\nmtu = 1400\n", []),
    "a connection that is none of a device's letters": (
        "[connection a/b*c]\nmtu = 1400\n[connection a:b]\ninterface = {connection}\n",
        ["f.conf:4: interface = {connection} gives a:b, where the daemon names none: a device name is letters, digits"],
    ),
    "a VRF that is the device": ("[device d]\nvrf = d\n", ["f.conf:2: vrf = d is the tunnel's device itself"]),
    "a VRF that is the connection's device": (
        "[connection t]\ninterface = d\nvrf = d\n",
        ["f.conf:3: vrf = d is the tunnel's device itself"],
    ),
    "an MTU too small for an address": (
        "[device d]\nmtu = 1279\naddress = 10.0.0.1/30 fd00::1/64\n",
        ["f.conf:2: mtu = 1279 with address fd00::1/64: IPv6 needs 1280"],
    ),
    "an MTU of all too small for a connection's address": (
        "[defaults]\nmtu = 1000\n[connection t]\naddress = fd00::1/64\n",
        ["f.conf:2: mtu = 1000 with address fd00::1/64"],
    ),
    "MTUs that are enough": (
        "[device d]\nmtu = 1280\naddress = fd00::1/64\n[device e]\nmtu = auto\naddress = fd00::1/64\n"
        "[device f]\nmtu = 1000\naddress = 10.0.0.1/30\n",
        [],
    ),
    "nothing wrong": ("[device d]\nlocal = 192.0.2.1\nmark = 5\n[device e]\nremote = any\n", []),
    "a missing file": (None, []),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_cannot_be_together(case: str, tmp_path: Path) -> None:
    text, wanted = CONTRADICTIONS[case]
    if text is not None:
        (tmp_path / "f.conf").write_text(text)
    found = [mistake.replace(f"{tmp_path}/", "") for mistake, *_ in check_files(str(tmp_path / "f.conf")).mistakes]
    assert [one[: len(said)] for one, said in zip(found, wanted)] == wanted
    assert len(found) == len(wanted)


def test_lines_below_a_bad_head_count_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.conf").write_text("[devise vti5]\nlocal = 192.0.2.1\n[defaults]\nmtu = 1400\n")
    checked = check_files(str(tmp_path / "f.conf"))
    assert [line.key for line in checked.lines] == ["mtu"]
    assert len(checked.mistakes) == 1


def test_the_settings_are_checked_without_root_or_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("updown.serve.Netlink", None)
    (tmp_path / "f.conf").write_text("[defaults]\nmtu = 1400\n")
    given = ["check", "--settings", "--config", str(tmp_path / "f.conf")]
    assert dispatch(words(given, False), {}) == 0
    assert capsys.readouterr().out == "vti-updown check: settings are in order (1 lines)\n"
    (tmp_path / "f.conf").write_text("[defaults]\nmtu = 14\n[defaults]\nroutng = yes\n")
    assert dispatch(words(given, False), {}) == 5
    assert capsys.readouterr().out.count("    mend: ") == 2
    (tmp_path / "f.conf").unlink()
    assert dispatch(words(given, False), {}) == 5
    assert "no such file" in capsys.readouterr().out
