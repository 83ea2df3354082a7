"""Ends and keys of a device as the settings say them, against those of the tunnel."""

from __future__ import annotations

from updown.model.claims import SaInfo
from updown.model.errors import Refused
from updown.model.objects import family
from updown.model.resources import DeletionRule
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


def ends_of(sa: SaInfo, settings: Settings, row: DeletionRule) -> tuple[str, str]:
    """Both ends of a VTI: what the settings say of the device, else the tunnel's. Raises Refused where these are of another
    family than the tunnel's."""
    for key, said in (("local", settings.local), ("remote", settings.remote)):
        if said not in ("", ANY) and family(said) != sa.outer_family:
            raise Refused(
                f"{key} = {said} in the settings, but the tunnel's ends are {sa.me} and {sa.peer}",
                f"correct `{key}`, or leave it out: then it is the tunnel's own",
            )
    remote = configured_remote(settings) or (ANY if row.any_remote else sa.peer)
    return settings.local or sa.me, ANYWHERE[sa.outer_family] if remote == ANY else remote


def check_key(device: str, key: str, said: int, has: int, words: str) -> None:
    """Raise Refused where the settings give the device another key than the tunnel has: one direction or both would be
    dropped without a word. `words`: how the daemon is told of it."""
    if said and said != has:
        raise Refused(
            f"{device}: {key} = {said} in the settings, but {has or 'none'} in the tunnel: nothing would pass",
            f"give both the same: in the daemon's configuration it is {words}",
        )
