"""libreswan: variables -> context, for 4.10 (and 3.x) and for 5.x and main.

Sources: programs/pluto/updown.c build_updown_environ (5.x), programs/pluto/kernel.c fmt_common_shell_out (4.10), and recordings
of live daemons (tests/recordings). The quirks undone here are listed in docs/libreswan.md."""

from __future__ import annotations

from collections.abc import Mapping

from updown.daemons.table import HINT, NEEDED, OPTIONAL, SHOWN, STRICT, TO_MAKE, Row, context_of, drop_the_peers, read_table
from updown.model import values
from updown.model.context import Context, Selector, parse_verb
from updown.model.errors import Notice, Refused
from updown.model.ipsec import FIRST_AUTOMATIC_REQID
from updown.model.objects import host, is_any
from updown.model.record import Any
from updown.model.values import escaped

KINDS = ("CK_PERMANENT", "CK_TEMPLATE", "CK_INSTANCE", "CK_GOING_AWAY", "CK_GROUP")
LABELLED = "CK_LABELED_"

CHILD_TYPES = ("ESP", "AH", "IPCOMP")
NO_CHILD_TYPES = ("none", "unknown?")  # the latter after a refused negotiation

CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")


def kind_word(value: str) -> str:
    """CK_PERMANENT and the like; also one that a later release may have."""
    if not value.startswith("CK_") or not value[3:] or not set(value) <= CAPITALS:
        raise ValueError("CK_ and a word in capitals is expected")
    return value


def sent_from(value: str) -> str | None:
    """leftsourceip= or a lease; an unspecified address is none given."""
    return None if is_any(values.address(value)) else values.host_address(value)


sa_type = values.choice(*CHILD_TYPES, *NO_CHILD_TYPES)
ip_family = values.choice("ipv4", "ipv6")

TABLE: tuple[Row, ...] = (
    Row("PLUTO_VERB", "verb", parse_verb, NEEDED),
    Row("PLUTO_CONNECTION", "connection", str, NEEDED),
    Row("PLUTO_ME", "me", values.address, NEEDED),
    Row("PLUTO_PEER", "peer", values.address, NEEDED),
    Row("PLUTO_MY_CLIENT", "my_client", values.network, STRICT),
    Row("PLUTO_MY_CLIENT_NET", "my_net", values.address, OPTIONAL),
    Row("PLUTO_MY_CLIENT_MASK", "my_mask", values.mask_length, OPTIONAL),
    Row("PLUTO_MY_PROTOCOL", "my_protocol", values.protocol, STRICT),
    Row("PLUTO_MY_PORT", "my_port", values.port, STRICT),
    Row("PLUTO_PEER_CLIENT", "peer_client", values.network, STRICT),
    Row("PLUTO_PEER_CLIENT_NET", "peer_net", values.address, OPTIONAL),
    Row("PLUTO_PEER_CLIENT_MASK", "peer_mask", values.mask_length, OPTIONAL),
    Row("PLUTO_PEER_PROTOCOL", "peer_protocol", values.protocol, STRICT),
    Row("PLUTO_PEER_PORT", "peer_port", values.port, STRICT),
    Row("PLUTO_CLIENT_FAMILY", "client_family", ip_family, STRICT),
    Row("PLUTO_CONN_ADDRFAMILY", "host_family", ip_family, OPTIONAL),
    Row("PLUTO_CONNECTION_TYPE", "connection_type", str, OPTIONAL),
    Row("PLUTO_CONN_KIND", "connection_kind", kind_word, STRICT),
    Row("PLUTO_CONN_POLICY", "policy", values.plus_words, STRICT),
    Row("PLUTO_STACK", "stack", str, OPTIONAL),
    Row("PLUTO_SA_TYPE", "sa_type", sa_type, STRICT),
    Row("PLUTO_SA_REQID", "reqid", values.number, STRICT),
    Row("SPI_IN", "peer_spi", values.spi, STRICT),
    Row("SPI_OUT", "own_spi", values.spi, STRICT),
    Row("CONNMARK_IN", "mark_in", values.mark, STRICT),
    Row("CONNMARK_OUT", "mark_out", values.mark, STRICT),
    Row("VTI_IFACE", "interface", values.device_name, STRICT),
    Row("VTI_ROUTING", "routing", values.yes_no, STRICT),
    Row("VTI_SHARED", "shared", values.yes_no, STRICT),
    Row("VTI_IP", "vti_address", values.interface_address, TO_MAKE),
    Row("PLUTO_VIRT_INTERFACE", "daemon_device", values.daemon_device, STRICT),
    Row("PLUTO_XFRMI_ROUTE", "xfrmi_route", values.yes_no, STRICT),
    Row("PLUTO_XFRMI_FWMARK", "fwmark", values.mark, STRICT),
    Row("INTERFACE_IP", "xfrmi_address", values.interface_address, TO_MAKE),
    Row("PLUTO_INTERFACE", "underlay", values.daemon_device, OPTIONAL),
    Row("PLUTO_NEXT_HOP", "next_hop", values.address, OPTIONAL),
    Row("PLUTO_METRIC", "metric", values.number, STRICT),
    Row("PLUTO_MTU", "mtu", values.mtu, STRICT),
    Row("PLUTO_MY_SOURCEIP", "source_address", sent_from, OPTIONAL),
    Row("PLUTO_MOBIKE_EVENT", "mobike", values.yes_no, OPTIONAL),
    Row("PLUTO_MY_ID", "my_id", str, OPTIONAL),
    Row("PLUTO_PEER_ID", "peer_id", str, OPTIONAL),
    Row("PLUTO_PEER_CA", "peer_ca", str, OPTIONAL),
    Row("PLUTO_USERNAME", "username", str, OPTIONAL),
    Row("XAUTH_FAILED", "xauth_failed", values.flag, OPTIONAL),
    Row("PLUTO_IS_PEER_CISCO", "cisco_peer", values.flag, OPTIONAL),
    Row("PLUTO_CFG_SERVER", "config_server", values.flag, OPTIONAL),
    Row("PLUTO_CFG_CLIENT", "config_client", values.flag, OPTIONAL),
    Row("PLUTO_NM_CONFIGURED", "network_manager", values.flag, OPTIONAL),
    Row("PLUTO_PEER_DNS_INFO", "dns_servers", values.addresses, OPTIONAL),
    Row("PLUTO_PEER_DOMAIN_INFO", "dns_domains", values.words, OPTIONAL),
    Row("PLUTO_DNS_RESOLVER", "dns_resolver", str, OPTIONAL),
    Row("PLUTO_PEER_BANNER", "banner", str, OPTIONAL),
    Row("PLUTO_ADDTIME", "added", values.count, OPTIONAL),
    Row("PLUTO_INBYTES", "bytes_in", values.count, OPTIONAL),
    Row("PLUTO_OUTBYTES", "bytes_out", values.count, OPTIONAL),
    Row("NFLOG", "nflog_group", values.number, OPTIONAL),
    Row("CAT", "client_translation", values.flag, OPTIONAL),
    Row("UPDOWN_DEBUG", "debug", values.flag, OPTIONAL),
    Row("IPSEC_INIT_SCRIPT_DEBUG", "debug", values.flag, OPTIONAL),
)

IPSEC0_IF_ID = 16384  # ipsec0 cannot have if_id 0 (programs/pluto/ipsec_interface.c)


def read(environ: Mapping[str, str]) -> Context:
    """The context of a libreswan call; raises Refused with the name of the variable that is missing or bad."""
    fields, warnings = read_table(TABLE, environ)
    generation = 5 if "client_family" in fields else 4
    client(fields, "my", "PLUTO_MY_CLIENT")
    client(fields, "peer", "PLUTO_PEER_CLIENT")
    kind = fields.get("connection_kind", "CK_PERMANENT")
    if kind not in KINDS and not kind.startswith(LABELLED):
        text = f"PLUTO_CONN_KIND={escaped(kind, SHOWN)}: no kind of this release; taken for an instance"
        warnings.append(Notice("variable", text))
    reqid = fields.get("reqid", 0)
    automatic = reqid >= FIRST_AUTOMATIC_REQID
    policy = frozenset(fields.get("policy", ()))
    wishes = policy & {"UP", "KEEP", "ROUTE"}
    failure_shunt = any(word.startswith("failure") and word != "failureNONE" for word in policy)
    child = fields.get("sa_type", "ESP" if fields.get("own_spi") else "none") in CHILD_TYPES
    # the variable is there with a source address alone (programs/pluto/updown.c); without it the same call ends a second
    # connection of an IKE SA at 5.2's shutdown
    silent = "MOBIKE" in policy and "PLUTO_MOBIKE_EVENT" not in environ
    may_move = generation >= 5 and "unroute" in fields["verb"].steps and child and bool(wishes) and silent
    interface = fields.get("interface")
    device = fields.get("daemon_device")
    drop_the_peers(fields, warnings, {"PLUTO_MY_SOURCEIP": "source_address"})
    derived: dict[str, Any] = {
        "daemon": "libreswan",
        "generation": generation,
        "warnings": tuple(warnings),
        "instance": kind != "CK_PERMANENT",  # CK_GOING_AWAY is an instance that 4.10 is deleting
        "template": kind == "CK_TEMPLATE",
        "policy": policy,
        "initiates": "UP" in policy,
        "revives": bool(wishes) or failure_shunt,
        # 4.10 does not show ROUTE: there a trap ends with `unroute` alone
        "down_ends_trap": generation >= 5,
        "reqid": reqid & ~3 if automatic else reqid,
        "reqid_automatic": automatic,
        "child": child,
        # SPI_IN carries the peer's SPI, the one of packets we send (programs/pluto/updown.c)
        "spi_in": fields.get("own_spi", 0),
        "spi_out": fields.get("peer_spi", 0),
        # both are always sent, but mean something only with the device they speak of
        "routing": fields.get("routing") if interface else fields.get("xfrmi_route") if device else None,
        "shared": fields.get("shared") if interface else None,
        "interface_addresses": interface_addresses(fields, interface, device, generation),
        "if_id_in": if_id(device),
        "if_id_out": if_id(device),
        "next_hop": next_hop(fields),
        "suspended": fields.get("mobike", False),
        "suspended_if_lost": may_move,
        "dns_resolver": fields.get("dns_resolver", "file"),
    }
    return context_of(fields, derived)


def client(fields: dict[str, Any], side: str, variable: str) -> None:
    """Put the selector of `side` together; the network may be given as _NET and _MASK alone (3.x)."""
    network = fields.get(f"{side}_client")
    if network is None:
        if f"{side}_net" not in fields or f"{side}_mask" not in fields:
            raise Refused(f"{variable} is not set", "the IKE daemon sets it; by hand, use a saved environment")
        network = values.network(f"{fields[f'{side}_net']}/{fields[f'{side}_mask']}")
    fields[f"{side}_client"] = Selector(network, fields.get(f"{side}_protocol", 0), fields.get(f"{side}_port", "0"))


def interface_addresses(fields: Mapping[str, Any], interface: Any, device: Any, generation: int) -> tuple[str, ...]:
    """Addresses for the tunnel device: leftvti, or in 4.10 leftinterface-ip, which pluto 5.x sets by itself. Raises Refused."""
    name = "vti_address" if interface else "xfrmi_address" if device and generation < 5 else ""
    if name in fields and host(fields[name]) == fields["peer"] and fields["verb"].makes:
        variable = "VTI_IP" if interface else "INTERFACE_IP"
        raise Refused(
            f"{variable}={fields[name]}: the peer's outer address; this end's own inside the tunnel is expected", HINT
        )
    return (fields[name],) if name in fields else ()


def if_id(device: Any) -> int:
    """The if_id of pluto's ipsecN: N, and 16384 for ipsec0; 0 where the name does not tell."""
    digits = device[5:] if device and device.startswith("ipsec") else ""
    return int(digits) or IPSEC0_IF_ID if digits.isdigit() else 0


def next_hop(fields: Mapping[str, Any]) -> Any:
    """The gateway towards the peer; the peer itself, given as next hop, means that it is reached directly."""
    hop = fields.get("next_hop")
    return None if hop == fields["peer"] else hop
