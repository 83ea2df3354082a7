"""The files below contrib/strongswan are what they say: strongSwan takes them, and they do what their comments promise."""

from __future__ import annotations

import pytest

from tests import TOP
from tests.daemon.charon import Charon
from tests.daemon.children import IPSEC_SECRETS, MARK5, MOON, SUN, THIRD, End, child, configuration, connection, initiated
from tests.daemon.connections import encrypted_ping, without_device, without_trace
from tests.daemon.endpoint import HOOK, WORTHLESS
from tests.daemon.nodes import Ground, wait_for

pytestmark = pytest.mark.daemon

FOLDER = TOP / "contrib/strongswan"
INSTALLED = "/usr/libexec/vti-updown"
HERE, THERE = MOON._replace(name="west.example"), SUN._replace(name="east.example")
SERVER, WARRIOR = MOON._replace(name="vpn.example"), End("warrior.example", THIRD, "dynamic", "")
AT_SUN = "[connection *]\ninterface = vti{mark}\n[connection warrior]\nrouting = yes\n"
EVERYTHING = "0.0.0.0/0,::/0"


def example(name: str) -> str:
    """As it is, but for the place of the hook, the secret, and certificates, which are no matter of ours."""
    text = (FOLDER / name).read_text()
    assert INSTALLED in text
    assert "change this" in text or name.startswith("starter")
    text = text.replace(INSTALLED, f'"{HOOK}"').replace("change this", WORTHLESS).replace("auth = pubkey", "auth = psk")
    return text.replace("certs = server.pem", "")


def gateway(moon: Charon, sun: Charon, name: str, selectors: str = "") -> None:
    """Moon has the example; sun is the gateway at its other end, and a road warrior too."""
    sun.configure(install_virtual_ip="no")
    everything = {"local_ts": selectors, "remote_ts": selectors} if selectors else {}
    net = connection(THERE, HERE, {"net": child(THERE, HERE, **MARK5, **everything)})
    of_client = {"mark_in": "7", "mark_out": "7", "local_ts": "dynamic"}
    warrior = connection(WARRIOR, SERVER, {"warrior": child(WARRIOR, SERVER, **of_client)}, vips="0.0.0.0")
    sun.load(AT_SUN, configuration({"t": net, "w": warrior}))
    settings = (FOLDER / name / "vti-updown.conf").read_text()
    moon.load(settings, example(f"{name}/swanctl.conf") + f'secrets {{ ike-any {{ secret = "{WORTHLESS}" }} }}\n')


def a_warrior_comes_and_goes(ground: Ground, moon: Charon, sun: Charon, device: str) -> None:
    initiated(sun, "warrior", MOON.net, "vti7")
    assert sun.addresses("vti7") == {"10.0.1.1/32"}
    assert moon.routed_into(device) == {"10.0.1.1"}
    encrypted_ping(ground, sun, MOON.host, "10.0.1.1")
    sun.terminate("warrior")
    without_trace(sun, "vti7")
    wait_for(lambda: not moon.our_routes(), "the warrior's route gone")
    assert moon.claims() == []


def test_vti(ground: Ground, moon: Charon, sun: Charon) -> None:
    gateway(moon, sun, "vti")
    wait_for(lambda: moon.routed_into("vti01") == {SUN.net}, "the tunnel that start_action asks for")
    assert moon.addresses("vti01") == {"10.99.0.1/30"}
    sun.ip(f"route add {MOON.net} dev vti5")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.terminate("net")
    without_trace(moon, "vti01")
    without_device(sun)
    a_warrior_comes_and_goes(ground, moon, sun, "vti02")
    assert moon.device("vti02"), "a shared device stays"


def test_xfrm(ground: Ground, moon: Charon, sun: Charon) -> None:
    """The permanent tunnel's interface is routed by hand, stays, and drops what is sent while the tunnel is down."""
    gateway(moon, sun, "xfrm", EVERYTHING)
    wait_for(lambda: len(moon.claims()) == 2, "the tunnel that start_action asks for")
    assert moon.addresses("ipsec42") == {"10.99.0.1/30", "fd00:99::1/64"}
    assert moon.our_routes() == []
    moon.ip(f"route add {SUN.net} dev ipsec42")
    sun.ip(f"route add {MOON.net} dev vti5")
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.terminate("net")
    without_device(sun)
    assert moon.routed_into("ipsec42") == {SUN.net}
    ground.wire.seen()
    assert not moon.ping(SUN.host, MOON.host, count=1, patience=1)
    assert not ground.wire.seen().clear
    a_warrior_comes_and_goes(ground, moon, sun, "ipsec43")
    without_device(moon, "ipsec43")


def test_starter(ground: Ground, moon: Charon, sun: Charon) -> None:
    net = {"net": child(THERE, HERE, **MARK5)}
    sun.load("[connection *]\ninterface = vti5\nrouting = yes\n", configuration({"t": connection(THERE, HERE, net)}))
    settings = (FOLDER / "starter/vti-updown.conf").read_text()
    moon.write_ipsec_conf(settings, IPSEC_SECRETS, example("starter/ipsec.conf"))
    moon.start(starter=True)
    wait_for(lambda: moon.routed_into("vti01") == {SUN.net}, "the tunnel that auto=start asks for")
    assert moon.addresses("vti01") == {"10.99.0.1/30"}
    encrypted_ping(ground, moon, SUN.host, MOON.host)
    moon.shut_down()
    without_trace(moon, "vti01")
    without_trace(sun)
