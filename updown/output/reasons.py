"""Why something is done, in words: the one place where reasons become sentences."""

from __future__ import annotations

from updown.concerns.device import differences_text
from updown.concerns.mtu import sum_text
from updown.model.operations import Reason

SENTENCES = {
    "": "",
    # devices
    "needs its device": "{who} needs its device",
    "belongs to": "{who}: it belongs to {what}",
    "ready": "{who}: ready",
    "differs": "{who}: {differences}",
    "fits": "{who}: mtu: {what}",
    "as it should be": "{who}: as it should be",
    "needs it up": "{who} needs it up",
    "no tunnel is up": "{who}: no tunnel is up on it",
    "silent": "{who}: its far end does not answer",
    "not silent": "{who}: its far end is not silent any more",
    "speaks to groups": "{who}: whether routing daemons may speak to groups by it",
    # what hangs on them
    "gives address": "{who} gives the device this address",
    "sends from": "{who} sends from {what}",
    "reaches": "{who} reaches {what} by it",
    "reaches now": "{who} reaches {what} by it now",
    "peer stays outside": "{who}: ESP and IKE to the peer stay outside the tunnel",
    "looks into table": "{who}: such packets look into table {what}",
    "segments fit": "{who}: TCP segments fit the tunnel",
    # sysctls
    "disable_policy": "{who}: other, unmarked policies must not drop what the tunnel brings",
    "forwarding": "{who}: packets pass between the tunnel and the networks behind us",
    "send_redirects": "{who}: who comes out of a tunnel has no other way than through it",
    "accept_redirects": "{who}: a peer must not lead packets elsewhere",
    "accept_ra": "{who}: what a peer advertises must not become a default route",
    "addr_gen_mode": "{who}: it has a link-local address of its own",
    "rp_filter": "{who}: the way back may differ from the way in",
    "keep_addr_on_down": "{who}: the device is set down while no tunnel is up, and keeps its addresses",
    # what goes, and what goes along
    "not needed": "{who}: no other route is in front of its own any more",
    "last holder": "{who} was the last to hold it",
    "last": "{who} was the last to want it",
    "silent route": "{who}: its far end does not answer; {what} lives",
    "yields": "{who} waits for its peer; {what} lives",
    "loops": "no way to the peer outside {what}",
    "goes with": "{who}: it goes with {what}",
    "others' goes with": "it is not ours and goes with the last address of {what}",
    "subnet's first goes": "it may go with {what}, its subnet's first",
    # by hand
    "orphan": "it is ours, and no claim asks for it",
    "other devices go": "the other devices go",
    "ours": "it is marked as ours",
    "ours no more": "it is ours no more",
}
"""By code; `{who}` is the connection, `{what}` what of."""


def reason_text(reason: Reason) -> str:
    """A reason's sentence."""
    what = sum_text(reason.total) if reason.total else reason.what
    words = {"who": reason.who, "what": what, "differences": differences_text(reason.differences)}
    return SENTENCES[reason.code].format(**words).removeprefix(": ")
