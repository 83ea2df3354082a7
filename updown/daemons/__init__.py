"""Which daemon calls is detected from its variables, never configured."""

from __future__ import annotations

from collections.abc import Mapping

from updown.model.context import Context
from updown.model.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from updown.model.claims import Rules

LIBRESWAN = ("PLUTO_CONN_KIND", "PLUTO_STACK", "PLUTO_SA_TYPE", "PLUTO_SA_REQID", "PLUTO_CONN_POLICY")
STRONGSWAN = ("PLUTO_UNIQUEID", "PLUTO_PROTO")
STRONGSWAN_INTERFACE = "1.1"
"""PLUTO_VERSION of strongSwan; libreswan before 4.4 sent 2.0, later ones send none."""


def read(environ: Mapping[str, str]) -> Context:
    """The context in `environ`; raises Refused where it is no daemon's, or a variable is missing or bad."""
    if any(name in environ for name in LIBRESWAN):
        from updown.daemons.libreswan import variables as libreswan

        return libreswan.read(environ)
    if environ.get("PLUTO_VERSION") == STRONGSWAN_INTERFACE or any(name in environ for name in STRONGSWAN):
        from updown.daemons.strongswan import variables as strongswan

        return strongswan.read(environ)
    raise Refused(
        "PLUTO_VERB is set, but none of the variables that tell which daemon calls",
        "replay a whole saved environment: PLUTO_CONN_KIND is libreswan's, PLUTO_UNIQUEID strongSwan's",
    )


def rules_of(context: Context) -> Rules:
    """What the verbs of the daemon that calls do to claims."""
    if context.daemon == "strongswan":
        from updown.daemons.strongswan import claims as strongswan

        return strongswan.RULES
    from updown.daemons.libreswan import claims as libreswan

    return libreswan.RULES


def known_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that we read, and no others: what is kept of an event that has to wait."""
    if any(name in environ for name in LIBRESWAN):
        from updown.daemons.libreswan import variables as libreswan

        names = {row.variable for row in libreswan.TABLE}
        return {name: value for name, value in environ.items() if name in names}
    return {name: value for name, value in environ.items() if name.startswith("PLUTO_")}
