"""What AppArmor and SELinux denied to us, from the journal.

The lines of AppArmor are a guest's (Linux 6.1, a profile on a shell that ran the hook); those of SELinux have the form of
security/selinux/avc.c and were written by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from updown.commands.check import denials
from updown.commands.check.denials import access_denied, fields_of, messages
from updown.commands.check.facts import CheckFacts, Denial, MachineFacts

PYTHON = "/usr/bin/python3.11"
LOADED = 'audit: type=1400 audit(1.1:6): apparmor="STATUS" operation="profile_load" profile="unconfined" name="{}" pid=123'
SAME = (
    'audit: type=1400 audit(1796087660.401:12): apparmor="STATUS" operation="profile_replace" '
    'info="same as current profile, skipping" profile="unconfined" name="charon" pid=147 comm="apparmor_parser"'
)
EXEC = (
    'audit: type=1400 audit(1796087585.060:8): apparmor="DENIED" operation="exec" profile="charon" '
    'name="/usr/share/v/hooks/vti-updown" pid=136 comm="charon-like" requested_mask="x" denied_mask="x" fsuid=0 ouid=0'
)
SOCKET = (
    'audit: type=1400 audit(1796087658.853:9): apparmor="DENIED" operation="create" profile="charon" pid=142 '
    'comm="vti-updown" family="netlink" sock_type="raw" protocol=0 requested_mask="create" denied_mask="create"'
)
SETTINGS = (
    'audit: type=1400 audit(1796087659.521:11): apparmor="DENIED" operation="open" profile="charon" '
    'name="/etc/vti-updown/vti-updown.conf" pid=144 comm="vti-updown" requested_mask="r" denied_mask="r" fsuid=0 ouid=0'
)
CREATE = (
    'audit: type=1400 audit(1796087590.556:104): apparmor="DENIED" operation="mknod" profile="charon" '
    'name="/run/vti-updown/net-1/lock" pid=140 comm="vti-updown" requested_mask="c" denied_mask="c" fsuid=0 ouid=0'
)
CAPABLE = (
    'audit: type=1400 audit(1.1:9): apparmor="DENIED" operation="capable" profile="charon" pid=9 comm="vti-updown" '
    'capability=12  capname="net_admin"'
)
AVC = (
    'audit: type=1400 audit(1.1:99): avc:  denied  { read } for  pid=77 comm="vti-updown" name="vti-updown.conf" dev="vda" '
    "ino=5 scontext=system_u:system_r:ipsec_t:s0 tcontext=system_u:object_r:user_home_t:s0 tclass=file permissive=0"
)
POLICY = "audit: type=1403 audit(1.1:3): policy loaded auid=4294967295 ses=4294967295"

CASES = {
    "running the hook": ([EXEC], [("exec", '"/usr/share/v/hooks/vti-updown" rix,')]),
    "its sockets": ([SOCKET], [("create", "")]),
    "its settings": ([SETTINGS], [("open", "")]),
    "a file it makes": ([CREATE], [("mknod", "")]),
    "a capability": ([CAPABLE], [("capable", "")]),
    "the interpreter": ([EXEC.replace("/usr/share/v/hooks/vti-updown", PYTHON)], [("exec", f'"{PYTHON}" rix,')]),
    "each once": ([SETTINGS, SETTINGS, SOCKET], [("open", ""), ("create", "")]),
    "SELinux's": ([AVC], [("read", "")]),
    "a path that the kernel wrote in digits": (
        [SETTINGS.replace('"/etc/vti-updown/vti-updown.conf"', b"/etc/vti-updown/a b".hex().upper())],
        [("open", "")],
    ),
    "a path that says more than itself": (
        [SETTINGS.replace('"/etc/vti-updown/vti-updown.conf"', b'/x/vti-updown/" rw, capability sys_admin, "'.hex().upper())],
        [("open", "")],
    ),
    "a process of somebody else's that is called so": ([SETTINGS.replace("fsuid=0", "fsuid=1000")], []),
    "a crashed process that has words of the kernel's in its name": (
        ["x[7]: segfault at 0 ip 0 sp 0 error 4 in " + SETTINGS],
        [],
    ),
    "the same about a profile that was loaded": ([SETTINGS, "x[7]: segfault in " + LOADED.format("charon")], [("open", "")]),
    "a file server's folder of that name": (
        [EXEC.replace("exec", "open").replace('"charon"', '"smbd"').replace("hooks/vti-updown", "vti-updown/x")],
        [],
    ),
    "a container's": ([SETTINGS.replace('profile="charon"', 'namespace="root//lxd-x" profile="charon"')], []),
    "a profile that was taken away": ([SETTINGS, LOADED.format("charon").replace("profile_load", "profile_remove")], []),
    "what others do": ([SETTINGS.replace("vti-updown", "firefox"), AVC.replace("vti-updown", "dhclient")], []),
    "another's interpreter": ([EXEC.replace("/usr/share/v/hooks/vti-updown", PYTHON).replace('"charon"', '"cups"')], []),
    "a profile in complain mode": ([SETTINGS.replace("DENIED", "ALLOWED")], []),
    "a permissive domain": ([AVC.replace("permissive=0", "permissive=1")], []),
    "the profile was loaded since": ([SETTINGS, LOADED.format("charon")], []),
    "another profile was loaded since": ([SOCKET, LOADED.format("cups")], [("create", "")]),
    "the profile was loaded before": ([LOADED.format("charon"), SOCKET], [("create", "")]),
    "it was to be loaded as it is": ([SOCKET, SAME], [("create", "")]),
    "SELinux's policy was loaded since": ([AVC, POLICY], []),
}


@pytest.mark.parametrize(("said", "found"), CASES.values(), ids=CASES)
def test_what_is_denied_to_the_hook(said: list[str], found: list[tuple[str, str]]) -> None:
    assert [(one.operation, one.rule) for one in denials.denials(said, PYTHON)] == found


def test_a_forged_field_in_a_name_is_no_field() -> None:
    assert fields_of('a="x" name="comm=vti-updown" comm="sh"')["comm"] == "sh"


def test_the_journal_is_read_as_json() -> None:
    lines = [{"MESSAGE": EXEC}, {"MESSAGE": list(SOCKET.encode())}, {"other": 1}]
    printed = b"\n".join(json.dumps(line).encode() for line in lines) + b"\nnonsense\n[]\n"
    assert list(messages(printed)) == [EXEC, SOCKET]


JOURNAL = '#!/bin/sh\necho "$*" >"$0.asked"\ncat "$0.entries"\n'


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that prints what was written beside it, on a machine with AppArmor."""
    program = tmp_path / "journalctl"
    program.write_text(JOURNAL)
    program.chmod(0o755)
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(denials, "JOURNALCTL", str(program))
    monkeypatch.setattr(denials, "ENABLED", str(tmp_path / "enabled"))
    monkeypatch.setattr(denials, "PROFILES", str(tmp_path))
    monkeypatch.setattr(denials, "JOURNALS", (str(tmp_path / "none"), str(tmp_path)))
    return program


def test_the_kernel_s_entries_since_boot_are_asked_for(journalctl: Path) -> None:
    Path(f"{journalctl}.entries").write_text(json.dumps({"MESSAGE": SETTINGS}) + "\n")
    (journalctl.parent / "charon").write_text("profile charon {}\n")
    assert denials.journal() == ((Denial("charon", "open", "/etc/vti-updown/vti-updown.conf", "", "charon"),), "")
    asked = Path(f"{journalctl}.asked").read_text().split()
    assert "-q" not in asked
    assert {"-b", "json", "_TRANSPORT=kernel", "_TRANSPORT=audit"} <= set(asked)


def test_without_confinement_nothing_is_asked(journalctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enabled").write_text("N\n")
    monkeypatch.setattr(denials, "SELINUX", str(tmp_path / "no"))
    assert denials.journal() == ((), "")
    assert not Path(f"{journalctl}.asked").exists()


def test_a_journal_that_cannot_be_read_is_told(journalctl: Path) -> None:
    journalctl.write_text("#!/bin/sh\necho 'No journal files' >&2\nexit 1\n")
    (found,) = access_denied(CheckFacts(machine=MachineFacts((), (), (), frozenset(), {}, {}, (), *denials.journal())))
    assert (found.code, found.subject) == ("not-looked-at", "journal")
    assert "No journal files" in found.text


@pytest.mark.usefixtures("journalctl")
def test_a_machine_without_a_journal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "JOURNALS", ("/nonexistent/journal",))
    assert denials.journal() == ((), "there is no journal: neither /nonexistent/journal")


def test_more_than_are_read_are_told(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "ENTRIES", 2)
    Path(f"{journalctl}.entries").write_text(json.dumps({"MESSAGE": SETTINGS}) + "\n" + json.dumps({"MESSAGE": SOCKET}) + "\n")
    found, why = denials.journal()
    assert len(found) == 2
    assert why == "there are more than the latest 2, which were read"


def test_a_journal_without_an_end_is_bounded(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "LARGEST", 1000)
    journalctl.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    assert denials.journal() == ((), "it printed more than 1000 bytes")


def test_a_profile_s_denials_are_one_finding_with_all_lines_that_the_hook_needs() -> None:
    """What else it needs would be denied next."""
    denied = [one._replace(file="usr.lib.ipsec.charon") for one in denials.denials([EXEC, SOCKET], PYTHON)]
    (found,) = access_denied(CheckFacts(machine=MachineFacts(denied=tuple(denied))))
    assert (found.code, found.subject) == ("access-denied", "charon")
    assert found.text == "AppArmor's profile charon denied: exec /usr/share/v/hooks/vti-updown, create netlink"
    write, load = found.mend.split("; ")
    words = shlex.split(write)
    assert words[-1] == ">>/etc/apparmor.d/local/usr.lib.ipsec.charon"
    assert load == "apparmor_parser -r /etc/apparmor.d/usr.lib.ipsec.charon"
    rules = [word.strip() for word in words[2:-1]]
    assert rules.count("network netlink raw,") == 1
    assert {'"/usr/share/v/hooks/vti-updown" rix,', '"/etc/vti-updown/{,**}" r,', "capability net_admin,"} <= set(rules)


def test_of_selinux_and_of_a_profile_without_a_file_the_mend_says_what_to_do() -> None:
    denied = tuple(denials.denials([SETTINGS, AVC], PYTHON))
    apparmor, selinux = access_denied(CheckFacts(machine=MachineFacts(denied=denied)))
    assert apparmor.mend.startswith('write "/etc/vti-updown/{,**}" r, ')
    assert apparmor.mend.endswith("into profile charon, and load it")
    assert "audit2allow" in selinux.mend
    assert selinux.subject == "SELinux"
