"""Ends and keys of a device as the settings say them, against those of the tunnel."""

from __future__ import annotations

from updown.model.claims import Claim
from updown.model.context import Context
from updown.model.errors import Refused
from updown.model.objects import bare, family
from updown.model.resources import DeletionRule, Device, Resource
from updown.settings.file import Line, resolve
from updown.settings.keys import Settings
from updown.settings.parsers import ANY

ANYWHERE = {4: "0.0.0.0", 6: "::"}


def configured_remote(settings: Settings) -> str:
    """What the settings say of a VTI's remote end: an address, any, or nothing. A device with a `local` of its own is
    described whole: `remote` left out is any."""
    return settings.remote or (ANY if settings.local else "")


def has_any_remote(settings: Settings, stays: bool) -> bool:
    """Whether the device has no fixed remote end; `stays` decides where the settings do not."""
    said = configured_remote(settings)
    return said == ANY if said else stays


def ends_of(context: Context, settings: Settings, row: DeletionRule) -> tuple[str, str]:
    """Both ends of a VTI: what the settings say of the device, else the tunnel's. Raises Refused where these are of another
    family than the tunnel's."""
    for key, said in (("local", settings.local), ("remote", settings.remote)):
        if said not in ("", ANY) and family(said) != context.outer_family:
            raise Refused(
                f"{key} = {said} in the settings, but the tunnel's ends are {context.me} and {context.peer}",
                f"correct `{key}`, or leave it out: then it is the tunnel's own",
            )
    remote = configured_remote(settings) or (ANY if row.any_remote else context.peer)
    return settings.local or context.me, ANYWHERE[context.outer_family] if remote == ANY else remote


def with_configured_ends(claim: Claim, lines: tuple[Line, ...]) -> Claim:
    """A claim that followed its tunnel to other ends, with those back in place that the settings give its devices."""
    wants: list[Resource] = []
    for want in claim.resources:
        if isinstance(want, Device) and want.link.kind != "xfrm":
            said = resolve(lines, claim.connection, bare(want.link.name))
            anywhere = ANYWHERE[6 if want.link.kind == "vti6" else 4]
            remote = anywhere if said.remote == ANY else said.remote
            fits = all(family(end) == family(want.link.local) for end in (said.local, remote) if end)
            link = want.link._replace(local=said.local or want.link.local, remote=remote or want.link.remote)
            want = want._replace(link=link) if fits else want
        wants.append(want)
    return claim._replace(resources=tuple(wants))


def check_key(device: str, key: str, said: int, has: int, words: str) -> None:
    """Raise Refused where the settings give the device another key than the tunnel has: one direction or both would be
    dropped without a word. `words`: how the daemon is told of it."""
    if said and said != has:
        raise Refused(
            f"{device}: {key} = {said} in the settings, but {has or 'none'} in the tunnel: nothing would pass",
            f"give both the same: in the daemon's configuration it is {words}",
        )
