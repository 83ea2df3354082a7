"""Messages as pyroute2 reads and writes them, and links and routes at random to put into them."""

import ipaddress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from updown.kernel.netlink import wire
from updown.kernel.netlink.wire import Request
from updown.model.objects import Link, Route

quick = settings(deadline=None, max_examples=50, database=None)
HEADER = 16  # nlmsghdr, bytes
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
u32 = st.integers(0, 0xFFFFFFFF)
index = st.integers(1, 0x7FFFFFFF)
mtu = st.one_of(st.just(0), st.integers(68, 65535))
name = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0189_.-", min_size=1, max_size=15)
alias = st.one_of(st.just(""), st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=60))
v4 = st.ip_addresses(v=4).map(str)
v6: "st.SearchStrategy[str]" = st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:"))


def prefix(family: int, shortest: int = 0) -> "st.SearchStrategy[str]":
    most = 32 if family == 4 else 128

    def cut(drawn: tuple[str, int]) -> str:
        return str(ipaddress.ip_network(f"{drawn[0]}/{drawn[1]}", strict=False))

    return st.tuples(v4 if family == 4 else v6, st.integers(shortest, most)).map(cut)


parent = st.one_of(st.just(0), index)


def tunnel(kind: str, ends: "st.SearchStrategy[str]") -> "st.SearchStrategy[Link]":
    fields = st.fixed_dictionaries({"local": ends, "remote": ends, "ikey": u32, "okey": u32})
    return common(kind, fields)


def common(kind: str, fields: "st.SearchStrategy[dict[str, Any]]") -> "st.SearchStrategy[Link]":
    shared = st.fixed_dictionaries({"name": name, "parent": parent, "mtu": mtu, "up": st.booleans()})
    return st.tuples(shared, fields).map(lambda both: Link(kind=kind, **both[0], **both[1]))


any_link = st.one_of(tunnel("vti", v4), tunnel("vti6", v6), common("xfrm", st.fixed_dictionaries({"if_id": u32})))


def routes(family: int) -> "st.SearchStrategy[Route]":
    address = v4 if family == 4 else v6
    return st.builds(
        Route,
        prefix(family),
        st.just("vti5"),
        gateway=st.one_of(st.just(""), address),
        table=st.integers(1, 0xFFFFFFFF),
        metric=u32,
        mtu=mtu,
        source=st.one_of(st.just(""), address),
        protocol=st.integers(1, 255),
        if_id=st.just(0),
    )


any_route = st.one_of(routes(4), routes(6))


def theirs(kind: Any, request: Request) -> Any:
    """The request as pyroute2 reads it."""
    message = kind(wire.frame(request, 77))
    message.decode()
    assert message["header"]["length"] == HEADER + len(request.payload)
    assert message["header"]["type"] == request.type
    assert message["header"]["flags"] == request.flags
    assert message["header"]["sequence_number"] == 77
    return message


def pyroute2_bytes(kind: Any, fields: dict[str, Any], attrs: list[tuple[str, Any]]) -> bytes:
    """The payload of a message that pyroute2 writes."""
    message = kind()
    message.update(fields)
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)[HEADER:]


def names(message: Any) -> list[str]:
    return [entry[0] for entry in message["attrs"]]
