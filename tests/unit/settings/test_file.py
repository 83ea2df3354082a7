"""The administrator's file: its lines and sections, whose word counts, and errors that name file, line and the nearest key."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.settings_text import parse
from updown.model.errors import Refused, Untrusted
from updown.settings.file import Line, other_writer, read_all, read_files, resolve, resolver
from updown.settings.keys import Settings

DEFAULTS = "[defaults]\nmtu = 1000\n"
CONNECTION_GLOB = "[connection *]\nmtu = 1100\n"
CONNECTION = "[connection t]\nmtu = 1200\n"
DEVICE_GLOB = "[device vti*]\nmtu = 1300\n"
DEVICE = "[device vti5]\nmtu = 1400\n"
PRECEDENCE = {
    "nothing": ("", 0),
    "defaults": (DEFAULTS, 1000),
    "connection glob beats defaults": (CONNECTION_GLOB + DEFAULTS, 1100),
    "exact connection beats glob": (CONNECTION + CONNECTION_GLOB + DEFAULTS, 1200),
    "device glob beats exact connection": (DEVICE_GLOB + CONNECTION + CONNECTION_GLOB, 1300),
    "exact device beats device glob": (DEVICE + DEVICE_GLOB + CONNECTION, 1400),
    "order in the file does not matter between kinds": (DEVICE + CONNECTION + DEFAULTS, 1400),
    "later beats earlier in one kind": (DEFAULTS + "[defaults]\nmtu = 1001\n", 1001),
    "later beats earlier between globs": (CONNECTION_GLOB + "[connection ?]\nmtu = 1101\n", 1101),
    "another connection's section is not ours": ("[connection u]\nmtu = 1200\n" + DEFAULTS, 1000),
    "another device's section is not ours": ("[device vti6]\nmtu = 1200\n" + DEFAULTS, 1000),
    "upper and lower case differ": ("[connection T]\nmtu = 1200\n" + DEFAULTS, 1000),
}


@pytest.mark.parametrize("case", PRECEDENCE)
def test_device_beats_connection_beats_defaults_and_exact_beats_glob(case: str) -> None:
    text, mtu = PRECEDENCE[case]
    assert resolve(tuple(parse(text, "f")), "t", "vti5").mtu == mtu


def test_keys_of_different_sections_add_up() -> None:
    lines = tuple(parse("[defaults]\nmtu=1400\n[connection t]\nmetric=5\n[device vti5]\ntable=100\n", "f"))
    assert resolve(lines, "t", "vti5") == Settings(mtu=1400, metric=5, table=100)


@pytest.mark.parametrize(
    ("pattern", "connection", "fits"),
    [
        ("t", "t", True),
        ("t", "t/1x2", True),
        ("t/1x2", "t/1x2", True),
        ("t/1x2", "t/1x1", False),
        ("t", "tt", False),
        ("t*", "t/1x2", True),
        ("road-[0-9]", "road-7", True),
        ("road-[0-9]", "road-x", False),
        ("*", "anything", True),
        ("two words", "two words", True),
    ],
)
def test_a_section_is_for_the_connections_its_pattern_fits(pattern: str, connection: str, fits: bool) -> None:
    lines = tuple(parse(f"[connection {pattern}]\nmtu = 1400\n", "f"))
    assert (resolve(lines, connection).mtu == 1400) is fits


def test_the_exact_name_of_one_child_beats_a_glob_for_it() -> None:
    lines = tuple(parse("[connection t/1x2]\nmtu = 1400\n[connection t*]\nmtu = 1300\n", "f"))
    assert resolve(lines, "t/1x2").mtu == 1400


def test_mark_is_both_of_its_directions_and_the_later_line_counts() -> None:
    lines = tuple(parse("[connection t]\nmark_in = 7\n[device vti5]\nmark = 5\nmark_out = 6\n", "f"))
    found = resolve(lines, "t", "vti5")
    assert (found.mark_in, found.mark_out) == (5, 6)
    assert resolve(lines, "t").mark_in == 7


def test_every_mistake_is_found_in_its_place(tmp_path: Path) -> None:
    """Not only the first: of two files, below a bad head, and before any section."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "a.conf").write_text("mtu = 1400\nmtu = 1401\n[conection t]\nmtu = big\nlock_wait = 1\n[device d]\nmark = 5\n")
    (tmp_path / "conf.d" / "b.conf").write_text("[defaults]\nroutng = yes\nmtu = 1402\n[device e\n")
    (tmp_path / "conf.d" / "c.conf").mkdir()
    found = list(read_all(str(tmp_path / "a.conf")))
    said = [str(one).replace(f"{tmp_path}/", "").split(": ")[0] for one in found if isinstance(one, Refused)]
    assert said == ["a.conf:1", "a.conf:3", "a.conf:4", "conf.d/b.conf:2", "conf.d/b.conf:4", "conf.d/c.conf"]
    good = [(line.kind, line.key) for line in found if isinstance(line, Line)]
    assert good == [("unknown", "mtu"), ("unknown", "lock_wait"), ("device", "mark"), ("defaults", "mtu")]


def test_blank_lines_comments_and_white_space_do_not_count() -> None:
    text = "# a\n; b\n\n  [defaults]  \n\t mtu=1400 \n   # c\n"
    assert resolve(tuple(parse(text, "f")), "t").mtu == 1400


REFUSED = {
    "an unknown key with a near one": ("[defaults]\nmtuu = 1400\n", "f:2: unknown key mtuu; did you mean mtu?"),
    "a British spelling": ("[defaults]\nroutng = yes\n", "f:2: unknown key routng; did you mean routing?"),
    "an unknown key far from all": ("[defaults]\n\n\nzzzz = 1\n", "f:4: unknown key zzzz; known are interface, "),
    "an unknown section": ("[conection t]\n", "f:1: unknown section conection t; did you mean connection?"),
    "a device's section without a name a device can have": (
        "[device toolongdevicename1]\n",
        "f:1: [device toolongdevicename1]: a device name has at most 15 characters, this one 18",
    ),
    "a path as a device's section": ("[device a/b]\n", "f:1: [device a/b]: a device name is letters"),
    "a section for the kernel's own device": (
        "[device ip_vti0]\n",
        "f:1: [device ip_vti0]: ip_vti0 is the kernel's own, which no tunnel can have: choose another name",
    ),
    "a section for the kernel's own IPv6 device": ("[device ip6_vti0]\n", "f:1: [device ip6_vti0]: ip6_vti0 is the"),
    "a key twice": (
        "[connection t]\nroute = 10.9.0.0/16\nmtu = 1400\nroute = 10.8.0.0/16\n",
        "f:4: route stands in this section already, in line 2",
    ),
    "a section without a name": ("[connection]\n", "f:1: [connection] needs a name or a pattern"),
    "defaults with a name": ("[defaults x]\n", "f:1: unknown section defaults x"),
    "a section without its bracket": ("[defaults\n", "f:1: the section head lacks its ]"),
    "a line before any section": ("mtu = 1400\n", "f:1: mtu stands before any section"),
    "a line without an equals sign": ("[defaults]\nmtu 1400\n", "f:2: 'mtu 1400' is no `key = value`"),
    "a hostile line": ("[defaults]\n\x1b[2J = 1\n", "f:2: unknown key \\x1b[2J"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_names_file_line_and_what_was_expected(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        parse(text, "f")
    assert refusal.value.text.startswith(said)
    assert refusal.value.status == 2


@pytest.mark.parametrize("value", ["5 # my mark", "5\t; my mark", "5 #"])
def test_a_comment_behind_a_refused_value_is_told(value: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(f"[device d]\nmark = {value}\n", "f")
    assert refusal.value.hint == "a comment stands on a line of its own, which begins with # or ;"
    with pytest.raises(Refused) as refusal:
        parse("[device d]\nmark = 5#\n", "f")
    assert refusal.value.hint == ""


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").write_bytes(b"\xef\xbb\xbf[defaults]\nmtu = 1400\n")
    assert resolve(read_files(str(tmp_path / "vti-updown.conf")), "t").mtu == 1400


def test_a_key_may_stand_in_two_sections_of_one_name() -> None:
    text = "[connection t]\nmtu = 1400\n[connection t]\nmtu = 1300\n"
    assert resolve(tuple(parse(text, "f")), "t").mtu == 1300


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    assert read_files(str(tmp_path / "vti-updown.conf")) == ()


def test_conf_d_is_read_after_the_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "vti-updown.conf").write_text("[defaults]\nmtu = 1000\nmetric = 7\n")
    (tmp_path / "conf.d" / "20-b.conf").write_text("[defaults]\nmtu = 1200\n")
    (tmp_path / "conf.d" / "10-a.conf").write_text("[defaults]\nmtu = 1100\n")
    (tmp_path / "conf.d" / "30-c.conf~").write_text("[defaults]\nmtu = 1300\n")
    lines = read_files(str(tmp_path / "vti-updown.conf"))
    assert [line.value for line in lines if line.key == "mtu"] == [1000, 1100, 1200]
    assert resolve(lines, "t") == Settings(mtu=1200, metric=7)


def test_conf_d_counts_without_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[defaults]\nmtu = 1100\n")
    assert resolve(read_files(str(tmp_path / "vti-updown.conf")), "t").mtu == 1100


def test_an_error_in_conf_d_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[defaults]\nmtuu = 1100\n")
    with pytest.raises(Refused, match=r"conf\.d/a\.conf:2: unknown key mtuu"):
        read_files(str(tmp_path / "vti-updown.conf"))


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").mkdir()
    with pytest.raises(Refused, match=r"vti-updown\.conf: Is a directory"):
        read_files(str(tmp_path / "vti-updown.conf"))


def test_bytes_that_are_not_utf_8_may_stand_in_a_comment_and_are_shown_escaped_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").write_bytes(b"# caf\xe9\n[defaults]\ncaf\xe9 = 1\n")
    with pytest.raises(Refused, match=r"vti-updown.conf:3: unknown key caf\\xe9"):
        read_files(str(tmp_path / "vti-updown.conf"))


@given(st.text(st.characters(), max_size=120))
@settings(deadline=None, max_examples=200)
def test_no_file_raises_anything_but_a_refusal_that_names_the_line(text: str) -> None:
    try:
        parse(text, "f")
    except Refused as refusal:
        assert refusal.text.startswith("f:")
        assert refusal.text.isprintable()


@pytest.mark.parametrize(("value", "wait"), [("0", 0), ("0.05", 0.05), ("5", 5), ("60", 60)])
def test_how_long_to_wait_for_the_lock_is_a_setting_of_all(value: str, wait: float) -> None:
    assert resolve(tuple(parse(f"[defaults]\nlock_wait = {value}\n", "f")), "").lock_wait == wait
    assert resolve((), "").lock_wait == 5


@pytest.mark.parametrize("section", ["connection *", "device vti5"])
def test_the_wait_stands_in_defaults_alone(section: str) -> None:
    with pytest.raises(Refused, match="f:2: lock_wait stands in") as error:
        parse(f"[{section}]\nlock_wait = 5\n", "f")
    assert "[defaults]" in error.value.hint


SECTIONS = ["defaults", *(f"connection {name}" for name in ("*", "c*", "c", "c/1x2")), "device *", "device v?", "device v5"]


@given(st.lists(st.tuples(st.sampled_from(SECTIONS), st.sampled_from(["probe", "mark", "mark_in", "mtu"])), max_size=8))
@settings(max_examples=150)
def test_of_one_key_the_same_line_counts_where_thousands_are_asked_about(said: list[tuple[str, str]]) -> None:
    """As `resolve` has it, which the tables above hold."""
    values = {"probe": "10.9.0.{}", "mark": "{}", "mark_in": "{}", "mtu": "1{}00"}
    text = "".join(f"[{section}]\n{key} = {values[key].format(n + 1)}\n" for n, (section, key) in enumerate(said))
    lines = tuple(parse(text, "f"))
    for key in ("probe", "mark_in"):
        said_of = resolver(lines, key)
        for connection, device in (("c", "v5"), ("c/1x2", "v6"), ("d", "v5"), ("", "w")):
            assert said_of(connection, device) == getattr(resolve(lines, connection, device), key)


SEVERAL: dict[str, tuple[str, dict[str, object]]] = {
    "a list in lines": ("route = 10.1.0.0/16\n    10.2.0.0/16,\n    10.3.0.0/16 via 10.6.0.2\n", {"route": 3}),
    "none behind the sign": ("address =\n\t10.0.0.1/30\n\tfd00::1/64\nmtu = 1400\n", {"address": 2, "mtu": 1400}),
    "a comment between": ("rule = fwmark 5\n  # the other\n  iif eth1\ntable = 7\n", {"rule": 2, "table": 7}),
    "indented keys": (
        "  route = 10.1.0.0/16\n    10.2.0.0/16\n  mtu = 1400\n    metric = 5\n",
        {"route": 2, "mtu": 1400, "metric": 5},
    ),
    "a pair in two lines": ("address = 10.0.0.1\n   peer 10.0.0.2\n", {"address": 1}),
    "an empty line between": ("route = 10.1.0.0/16\n\n  10.2.0.0/16\n", {}),
    "no list": ("mtu = 1400\n  1500\n", {}),
    "not further in": ("  route = 10.1.0.0/16\n  10.2.0.0/16\n", {}),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_a_list_may_go_on_in_lines_that_stand_further_in(case: str) -> None:
    text, wanted = SEVERAL[case]
    if not wanted:
        with pytest.raises(Refused, match=r"f:\d: "):
            parse(f"[defaults]\n{text}", "f")
        return
    found = {line.key: line.value for line in parse(f"[defaults]\n{text}", "f")}
    assert {key: len(value) if isinstance(value, tuple) else value for key, value in found.items()} == wanted


def test_a_list_in_lines_is_named_by_its_first() -> None:
    with pytest.raises(Refused, match=r"^f:3: route = 10.1.0.0/16, x: "):
        parse("[defaults]\nmtu = 1400\nroute =\n  10.1.0.0/16\n  x\nmetric = 1\n", "f")


@pytest.mark.parametrize(
    ("mode", "owner", "group", "writer"),
    [
        (0o644, 0, 0, ""),
        (0o664, 0, 0, ""),
        (0o664, 0, os.getegid(), ""),
        (0o664, 0, 4711, "group 4711"),
        (0o646, 0, 0, "everybody"),
        (0o600, 4711, 0, "user 4711"),
        (0o600, os.geteuid(), 0, ""),
        (0o1777, 0, 0, ""),
    ],
)
def test_who_else_may_write_a_file(mode: int, owner: int, group: int, writer: str) -> None:
    assert other_writer(os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))) == writer


@pytest.mark.parametrize("name", ["f.conf", "conf.d/a.conf"])
def test_a_file_that_others_may_write_is_not_used_and_the_others_are(tmp_path: Path, name: str) -> None:
    (tmp_path / "conf.d").mkdir()
    for file in ("f.conf", "conf.d/a.conf"):
        (tmp_path / file).write_text("[defaults]\nmtu = 1400\nmtuu = 1\n" if file == name else "[defaults]\nmetric = 5\n")
    (tmp_path / name).chmod(0o646)
    said = list(read_all(str(tmp_path / "f.conf")))
    (line,) = [one for one in said if isinstance(one, Line)]
    (refused,) = [one for one in said if isinstance(one, Refused)]
    assert line.key == "metric"
    assert isinstance(refused, Untrusted)
    assert (refused.where, refused.hint) == (
        f"{tmp_path / name}",
        f"chown root:root {tmp_path / name} && chmod go-w {tmp_path / name}",
    )
    assert "everybody may write it" in refused.text
    with pytest.raises(Refused, match="everybody may write it"):
        read_files(str(tmp_path / "f.conf"))


def test_each_mistake_knows_its_line(tmp_path: Path) -> None:
    (tmp_path / "f.conf").write_text("[defaults]\nmtuu = 1\n[devise x]\n")
    mistakes = [one for one in read_all(str(tmp_path / "f.conf")) if isinstance(one, Refused)]
    assert [one.where for one in mistakes] == [f"{tmp_path}/f.conf:2", f"{tmp_path}/f.conf:3"]
