"""What each daemon calls the things that our messages speak of."""

from __future__ import annotations

from updown.model.record import NamedTuple


class Words(NamedTuple):
    """For one daemon: `named` names a device, `shared` shares one, `marks` are its keys, `xfrm` makes an XFRM interface;
    `no_name` is why there is no device where nobody names one, `outside` keeps IKE out of the device {}."""

    named: str
    shared: str
    marks: str
    xfrm: str
    xfrm_is_free: str
    no_name: str
    outside: str
    by_settings: bool = True  # a device is named in our settings, not in the daemon's configuration


LIBRESWAN = Words(
    named="vti-interface",
    shared="vti-shared=yes",
    marks="mark=, or mark-in= and mark-out=",
    xfrm="ipsec-interface=",
    xfrm_is_free="ipsec-interface= has no local address",
    no_name="neither vti-interface, ipsec-interface nor the setting `interface` is given",
    outside="mobike=no, and left= with the outer address; then down and up again",
    by_settings=False,
)

STRONGSWAN = Words(
    named="`interface`",
    shared="`shared = yes`",
    marks="mark_in and mark_out",
    xfrm="if_id_in, if_id_out",
    xfrm_is_free="with if_id_in and if_id_out there is no local address",
    no_name="no setting `interface` for this connection, the child's name",
    outside="mobike = no, or charon.interfaces_ignore = {} in strongswan.conf; then down and up again",
)

MAKE = "make"
"""What claims of `vti-updown make` have in a daemon's place."""

SETTINGS = Words(
    named="[device NAME]",
    shared="`shared = yes`",
    marks="`mark`",
    xfrm="`if_id`",
    xfrm_is_free="with `if_id` there is no local address",
    no_name="no [device NAME] section names one",
    outside="give it outer addresses",
)


def words_of(daemon: str) -> Words:
    """The words of a daemon; a claim or context names it."""
    return {MAKE: SETTINGS, "strongswan": STRONGSWAN}.get(daemon, LIBRESWAN)
