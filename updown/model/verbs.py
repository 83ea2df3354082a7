"""PLUTO_VERB: one or several steps, a scope and a family.

libreswan 4.10 and 5.x: one step with `-host` or `-client`, and `-v6`; from 5.4 (updown-config=async) joined steps without a
suffix. strongSwan: up and down only. Source: libreswan programs/pluto/updown_names.c, strongSwan updown_listener.c.
"""

from __future__ import annotations

from updown.model.errors import Refused
from updown.model.record import NamedTuple

MAKING = ("prepare", "route", "up")
ENDING = ("down", "unroute")
IGNORED = ("disconnectNM",)  # 4.10 with NetworkManager and a Cisco peer: nothing of ours hangs on it


class Verb(NamedTuple):
    """What happened: `steps` in order, `scope` host, client or empty, `family` 4, 6 or 0 where the verb does not say."""

    text: str
    steps: tuple[str, ...]
    scope: str
    family: int

    @property
    def joined(self) -> bool:
        """An async call of libreswan 5.4+: its output would make `ipsec up` fail."""
        return len(self.steps) > 1

    @property
    def makes(self) -> bool:
        """Whether a step asks for something to be there afterwards."""
        return any(step in MAKING for step in self.steps)

    @property
    def routes(self) -> bool:
        """Whether routes are due: `up` alone or `route` alone can build all (promise P2), `prepare` makes the device."""
        return "route" in self.steps or "up" in self.steps


def parse_verb(text: str) -> Verb:
    """The verb in `text`; raises Refused for one that no daemon of ours sends."""
    words = text.split("-")
    family = 0
    scope = ""
    if words[-1] == "v6" and len(words) > 1 and words[-2] in ("host", "client"):
        words.pop()
        family = 6
    if words[-1] in ("host", "client"):
        scope = words.pop()
        family = family or 4
    steps = tuple(words)
    if len(steps) == 1 and steps[0] in MAKING + ENDING:
        return Verb(text, steps, scope, family)
    if len(steps) == 1 and steps[0] in IGNORED:
        return Verb(text, (), scope, family)
    if len(steps) > 1 and steps == tuple(step for step in MAKING if step in steps):
        return Verb(text, steps, scope, family)
    raise Refused(f"PLUTO_VERB: unknown verb {text!r}", "this release knows prepare, route, up, down, unroute")
