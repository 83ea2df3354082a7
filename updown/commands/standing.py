"""What a [device] section asks for by itself, without a tunnel: the claim of `vti-updown make`. Pure.

The claim asks for what a tunnel on the device would ask for beside its own routes, by the same list of concerns
(event.wants_of).
"""

from __future__ import annotations

import json

from updown import event
from updown.concerns.device import Wish
from updown.concerns.endpoints import ANYWHERE, remote_said
from updown.daemons.terms import MAKE
from updown.model.about import NOBODY
from updown.model.claims import MADE, Claim
from updown.model.context import Context, Selector
from updown.model.objects import family, placed
from updown.model.resources import Row
from updown.model.values import Mark, Network
from updown.model.verbs import Verb
from updown.settings.device import ANY
from updown.settings.file import Settings

WHO = "make"
ALL = {4: Network("0.0.0.0/0", ("0.0.0.0/0",)), 6: Network("::/0", ("::/0",))}
"""Selectors of a device without a tunnel."""


def kind_of(settings: Settings) -> str:
    """vti or xfrm: what `kind` says, else a VTI by its ends and marks, an XFRM interface by its if_id or by having none."""
    ends = settings.local or settings.remote or settings.mark_in or settings.mark_out
    return settings.kind or ("xfrm" if (settings.if_id or settings.external) and not ends else "vti")


def lacking(settings: Settings) -> str:
    """What the settings would have to say so that the device could be made; empty where they say enough."""
    if kind_of(settings) == "xfrm":
        return "" if settings.if_id or settings.external else "an XFRM interface needs `if_id`"
    if settings.local and settings.remote not in ("", ANY) and family(settings.local) != family(settings.remote):
        return f"`local` {settings.local} and `remote` {settings.remote} are of two families"
    missing = [
        name
        for name, said in (
            ("local", settings.local),
            ("mark_in", settings.mark_in),
            ("mark_out", settings.mark_out),
        )
        if not said
    ]
    if "mark_in" in missing and "mark_out" in missing:
        missing = [*missing[:-2], "mark"]
    words = " and ".join(f"`{name}`" for name in missing)
    return f"a VTI needs {words} (an XFRM interface `if_id`)" if missing else ""


def claim_of(name: str, settings: Settings, now: int, vrf_table: event.VrfTable) -> tuple[Claim, tuple[str, ...]]:
    """The claim that holds a device by itself, and what is to be said of it. Raises Refused where the settings do not fit."""
    settings = event.in_vrf(settings, vrf_table)
    row = Row(any_remote=remote_said(settings) in ("", ANY), goes=False)
    found, context = Wish(name, kind=kind_of(settings)), context_of(settings)
    asked = [
        event.wants_of(context._replace(my_client=inside, peer_client=inside), settings, found, row, True)
        for inside in map(Selector, ALL.values())  # it carries both families
    ]
    wants = tuple(dict.fromkeys(want for wants, _, _ in asked for want in wants))
    remarks = tuple(dict.fromkeys(remark for _, remarks, _ in asked for remark in remarks))
    key = json.dumps([MADE, name])
    about = NOBODY._replace(daemon=MAKE)
    return Claim(
        key, MADE, WHO, key, key, placed(name, settings.netns), row, since=now, wants=wants, about=about
    ), remarks


def context_of(settings: Settings) -> Context:
    """A call of nobody's, so that every concern can be asked for its wants: there is no tunnel, and no route of one."""
    me = settings.local or ANYWHERE[4]
    anywhere = ANYWHERE[family(me)]
    remote = remote_said(settings)
    selector = Selector(ALL[4])
    return Context(
        MAKE,
        0,
        Verb("make", ("prepare",), "", 0),
        WHO,
        me,
        anywhere if remote in ("", ANY) else remote,
        selector,
        selector,
        mark_in=Mark(settings.mark_in, 0xFFFFFFFF),
        mark_out=Mark(settings.mark_out, 0xFFFFFFFF),
        if_id_in=settings.if_id,
        if_id_out=settings.if_id,
        routing=False,
        shared=settings.shared,
    )
