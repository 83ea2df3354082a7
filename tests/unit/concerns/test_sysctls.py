"""The sysctls of a tunnel device: what libreswan's users count on, what settings change, and what cannot be written."""

import errno

import pytest

from tests.kit import field_cases
from tests.kit.machine import Machine, Tunnel, call, establish
from updown.kernel import sysctl

T = Tunnel(address="10.99.0.1/30")


@pytest.mark.parametrize(("of_all", "effective"), [("0", "0"), ("1", "2"), ("2", "0")])
def test_the_sysctls_are_what_libreswans_users_count_on(machine: Machine, of_all: str, effective: str) -> None:
    machine.kernel.files["net/ipv4/conf/all/rp_filter"] = of_all
    machine.send(call(T, "prepare"))
    assert {path: value for path, value in machine.sysctls("vti5").items() if "keep_addr" not in path} == {
        "ipv4 disable_policy": "1",
        "ipv4 forwarding": "1",
        "ipv4 rp_filter": effective,
        "ipv4 disable_xfrm": "0",
        "ipv4 send_redirects": "0",
        "ipv4 accept_redirects": "0",
        "ipv6 disable_policy": "1",
        "ipv6 forwarding": "1",
        "ipv6 addr_gen_mode": "0",
        "ipv6 accept_ra": "1",
        "ipv6 accept_redirects": "0",
    }


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("disable_policy = no", "ipv4 disable_policy", "0"),
        ("disable_policy = keep", "ipv6 disable_policy", "0"),
        ("forwarding = keep", "ipv4 forwarding", "0"),
        ("rp_filter = 1", "ipv4 rp_filter", "1"),
        ("send_redirects = 1", "ipv4 send_redirects", "1"),
        ("send_redirects = keep", "ipv4 send_redirects", "1"),
        ("accept_redirects = keep", "ipv4 accept_redirects", "1"),
        ("accept_redirects = keep", "ipv6 accept_redirects", "1"),
        ("send_redirects = keep", "ipv4 accept_redirects", "0"),
        ("rp_filter = keep", "ipv4 rp_filter", "7"),
        ("accept_ra = keep", "ipv6 accept_ra", "1"),
        ("accept_ra = 0", "ipv6 accept_ra", "0"),
        ("accept_ra = 2", "ipv6 accept_ra", "2"),
        ("forwarding = no", "ipv6 accept_ra", "0"),
        ("forwarding = keep", "ipv6 accept_ra", "0"),
        ("forwarding = no\naccept_ra = keep", "ipv6 accept_ra", "1"),
    ],
)
def test_each_sysctl_is_changeable_in_settings(machine: Machine, text: str, path: str, value: str) -> None:
    machine.kernel.files["net/ipv4/conf/default/rp_filter"] = "7"
    machine.settings(f"[device vti5]\n{text}\n")
    machine.send(call(T, "prepare"))
    assert machine.sysctls("vti5")[path] == value


def test_a_hub_sends_its_spokes_no_redirects(machine: Machine) -> None:
    """One VTI for both, so that a packet from one to the other leaves by the device that it came in by."""
    machine.settings(field_cases.settings("13"))
    for environment in field_cases.calls("13"):
        assert machine.send(environment).warnings == ()
        assert machine.sysctls("vti5")["ipv4 send_redirects"] == "0"
    assert {claim.sa.peer for claim in machine.claims()} == {"198.51.100.2", "198.51.100.3"}
    assert machine.kernel.files["net/ipv4/conf/all/send_redirects"] == "1", "it is everybody's; `check` tells"


@pytest.mark.parametrize(("default", "written"), [("0", "0"), ("1", "1"), ("2", "0")])
def test_a_device_that_forwards_heeds_no_router_advertisement(machine: Machine, default: str, written: str) -> None:
    """There the kernel heeds accept_ra = 2 alone, which a gateway's uplink may need, and every device inherits."""
    machine.kernel.files["net/ipv6/conf/default/accept_ra"] = default
    machine.send_all(establish(T))
    assert machine.sysctls("vti5")["ipv6 accept_ra"] == written
    machine.kernel.files["net/ipv6/conf/vti5/accept_ra"] = "2"
    machine.send(call(T, "up"))
    assert machine.sysctls("vti5")["ipv6 accept_ra"] == "0"


def test_a_sysctl_that_is_right_is_not_written(machine: Machine) -> None:
    for path in list(machine.kernel.files):
        if "/default/" in path and path.endswith(("disable_policy", "forwarding")):
            machine.kernel.files[path] = "1"
        if "/default/" in path and path.endswith("_redirects"):
            machine.kernel.files[path] = "0"
    report = machine.send(call(T, "prepare"))
    assert [operation for operation in report.operations if operation.action == "sysctl"] == []


def test_a_read_only_proc_sys_is_a_warning_and_no_failure(machine: Machine) -> None:
    machine.kernel.read_only_sysctls = True
    report = machine.send(call(T, "up"))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert [warning for warning in report.warnings if "Read-only file system (and 6 more)" in warning] == [*report.warnings]


def test_a_sysctl_that_cannot_be_read_is_taken_as_different(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("updown.kernel.sysctl.os.open", refuse)
    assert sysctl.read("net/ipv4/conf/vti5/forwarding") == ""
