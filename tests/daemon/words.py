"""What orders and options are called in the libreswan that is installed: they changed between 4 and 5."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """One generation's. What both take alike is not here."""

    ikev2: tuple[str, str]
    """The option of ipsec.conf, and its value, that asks for IKEv2."""
    rekey_child: str
    """whack's option."""
    auto: bool
    """Whether orders are given by `ipsec auto`."""
    obsolete: tuple[str, ...]
    """Options of our examples, written for all, that are read with a warning."""
    flushes: bool
    """Whether ipsec.service flushes the kernel's IPsec when pluto has ended, but with --leave-state."""
    unroutes_homeless: bool
    """Whether pluto unroutes a connection when it listens anew and finds its address gone."""
    keeps_narrowed: bool
    """Whether pluto replaces a child SA that it had narrowed: 5.2 refuses its rekeying (TS_UNACCEPTABLE), and a new one of a
    client that was killed (its policy is in use)."""
    marks_ike: bool
    """Whether pluto marks the IKE that it sends to a peer behind its own XFRM interface, as it marks ESP."""

    def order(self, name: str, connection: str, *options: str) -> list[str]:
        """The arguments of `ipsec` that give an order (add, up, route, delete...)."""
        return ["auto", *options, f"--{name}", connection] if self.auto else [name, *options, connection]


FOUR = Words(
    ikev2=("ikev2", "yes"),
    rekey_child="--rekey-ipsec",
    auto=True,
    obsolete=(),
    flushes=True,
    unroutes_homeless=True,
    keeps_narrowed=True,
    marks_ike=False,
)
FIVE = Words(
    ikev2=("keyexchange", "ikev2"),  # it warns of the old ones
    rekey_child="--rekey-child",
    auto=False,
    obsolete=("dpdaction",),
    flushes=False,
    unroutes_homeless=False,
    keeps_narrowed=False,
    marks_ike=True,
)


@functools.cache
def words() -> Words:
    """Of the libreswan here."""
    return of(subprocess.run(["ipsec", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout)


def of(version: str) -> Words:
    """Of the one that says this of its version."""
    found = re.search(r"Libreswan v?(\d+)\.", version)
    assert found, f"no version in: {version}"
    return FOUR if int(found.group(1)) < 5 else FIVE
