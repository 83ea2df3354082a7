"""`vti-updown make DEV` and `make --boot`: devices that the settings describe, before firewall and daemon.

Each is held by a claim of its own, so that it stays however many tunnels come and go."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from updown.commands.arguments import Arguments
from updown.concerns import addresses, catalogue
from updown.concerns.device_request import ANYWHERE, DeviceRequest, configured_remote
from updown.daemons.terms import MAKE
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock
from updown.ledger.store import Ledger
from updown.model import errors, values
from updown.model.claims import MADE, NO_SA, Change, Claim, SaInfo
from updown.model.errors import Refused, UpdownError
from updown.model.objects import family, placed
from updown.model.operations import Report
from updown.model.record import NamedTuple, dumps
from updown.model.resources import DeletionRule
from updown.output.lines import folded
from updown.output.report import plan_lines, print_answer, report_fields
from updown.serve import opened, present_state
from updown.settings.file import Line, effective_lines, is_glob, resolve, settings_lines
from updown.settings.keys import TEMPLATES, Settings
from updown.settings.parsers import ANY
from updown.transaction import Request, converge, finish_pending


class Made(NamedTuple):
    """What became of one device: a report, or why there is none."""

    name: str
    report: Report = Report("")
    error: UpdownError | None = None
    lacks: str = ""


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """The sub-command. With --boot what cannot be made is told, and the others are."""
    lines, now, dry = settings_lines(arguments.config), clock.now(), arguments.dry_run
    named = dict.fromkeys(line.pattern for line in lines if line.kind == "device" and not is_glob(line.pattern))
    names = list(named) if arguments.boot else [device_asked(arguments.files[0])]
    with present_state(arguments.state_dir) as place, opened(place, lines, dry) as ledger:
        earlier = finish_pending(ledger, place.netlink, dry)
        made = [make_device(name, lines, ledger, place.netlink, now, dry) for name in names]
    if not arguments.boot:
        ((_, _, error, lacks),) = made
        if error or lacks:
            raise error or Refused(f"{names[0]}: {lacks}", f"write it into [device {names[0]}] of the settings")
    print_answer(arguments.json, as_json(earlier, made), text(earlier, made, arguments.verbose))
    return max([errors.DONE, *(each.error.status for each in made if each.error)])


def device_asked(name: str) -> str:
    """The device that was asked for; raises Refused for what can be none."""
    try:
        return values.device_name(name)
    except ValueError as error:
        raise Refused(f"{values.escaped(name, 30)}: {error}", "name a device, as in [device vti5]") from None


def make_device(name: str, lines: tuple[Line, ...], ledger: Ledger, netlink: Netlink, now: int, dry: bool) -> Made:
    """Make one device, or bring it in line; what is in the way is kept for the caller to tell."""
    settings = resolve(lines, "", name)
    lacks = missing_keys(settings)
    if lacks:
        return Made(name, lacks=lacks)
    try:
        if settings.address:
            addresses.check_outer(settings, "", effective_lines(lines, "", name)["address"].where)
        claim, remarks = claim_of(device_asked(name), settings, now, netlink.vrf_table)
        report = converge(Request(MAKE, Change(put=(claim,))), ledger, netlink, dry)
    except UpdownError as error:
        return Made(name, error=error)
    return Made(name, report._replace(remarks=remarks + report.remarks))


def text(earlier: Report, made: list[Made], reasons: bool) -> list[str]:
    """For people: the commands, and a comment on what was not made."""
    lines = plan_lines(earlier, reasons, nothing="")
    for name, report, error, lacks in made:
        if error:
            lines += folded("# error: ", f"{name}: {error.text}" if name not in error.text else error.text)
            lines += folded("# hint: ", error.hint) if error.hint else []
        elif lacks:
            lines += folded("# ", f"{name} is not made: {lacks}")
        else:
            lines += plan_lines(report, reasons, nothing=f"{name} is as it should be")
    return lines or ["# no [device NAME] section names a device"]


def as_json(earlier: Report, made: list[Made]) -> dict[str, object]:
    """For programs."""
    devices = [
        {"name": name, "made": not (error or lacks), "error": error.text if error else "", "lacks": lacks}
        for name, _, error, lacks in made
    ]
    whole = reduce(Report.plus, (each.report for each in made), earlier)
    return {**report_fields(whole), "devices": devices}


def kind_of(settings: Settings) -> str:
    """vti or xfrm: what `kind` says, else a VTI by its ends and marks, an XFRM interface by its if_id or by having none."""
    ends = settings.local or settings.remote or settings.mark_in or settings.mark_out
    return settings.kind or ("xfrm" if (settings.if_id or settings.external) and not ends else "vti")


def missing_keys(settings: Settings) -> str:
    """What the settings would have to say so that the device could be made; empty where they say enough."""
    for key in TEMPLATES:
        if "{" in " ".join(getattr(settings, key)):
            return f"`{key}` has placeholders, which a tunnel alone has values for"
    if kind_of(settings) == "xfrm":
        return "" if settings.if_id or settings.external else "an XFRM interface needs `if_id`"
    if settings.local and settings.remote not in ("", ANY) and family(settings.local) != family(settings.remote):
        return f"`local` {settings.local} and `remote` {settings.remote} are of two families"
    missing = [name for name in ("local", "mark_in", "mark_out") if not getattr(settings, name)]
    if "mark_in" in missing and "mark_out" in missing:
        missing = [*missing[:-2], "mark"]
    words = " and ".join(f"`{name}`" for name in missing)
    return f"a VTI needs {words} (an XFRM interface `if_id`)" if missing else ""


def claim_of(name: str, settings: Settings, now: int, vrf_table: catalogue.VrfTable) -> tuple[Claim, tuple[str, ...]]:
    """The claim that holds a device by itself, and what is to be said of it. Raises Refused where the settings do not fit."""
    settings = catalogue.in_vrf(settings, vrf_table)
    row = DeletionRule(any_remote=configured_remote(settings) in ("", ANY), with_last=False)
    found, sa = DeviceRequest(name, kind=kind_of(settings), settings=settings), sa_of(settings)
    asked = [
        catalogue.resources_of(sa._replace(my_client=inside, peer_client=inside), found, row, True)
        for inside in ("0.0.0.0/0", "::/0")  # it carries both families
    ]
    wants = tuple(dict.fromkeys(want for wants, _ in asked for want in wants))
    remarks = tuple(dict.fromkeys(remark for _, routing in asked for remark in routing.remarks))
    key, on, sa = dumps([MADE, name]), placed(name, settings.netns), NO_SA._replace(daemon=MAKE)
    return Claim(key, MADE, MAKE, key, key, on, row, since=now, resources=wants, sa=sa), remarks


def sa_of(settings: Settings) -> SaInfo:
    """What every concern is asked with: there is no tunnel, and no route of one."""
    me, remote = settings.local or ANYWHERE[4], configured_remote(settings)
    peer = ANYWHERE[family(me)] if remote in ("", ANY) else remote
    sa = NO_SA._replace(daemon=MAKE, me=me, peer=peer, connection=MAKE, routing=False, shared=settings.shared)
    marked = sa._replace(mark_in=settings.mark_in, mark_out=settings.mark_out)
    return marked._replace(if_id_in=settings.if_id, if_id_out=settings.if_id)
