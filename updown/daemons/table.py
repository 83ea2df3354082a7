"""Reading an environment by a daemon's table: one row a variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from updown.model.context import Context
from updown.model.errors import Notice, Refused
from updown.model.objects import family, is_any
from updown.model.record import Any, NamedTuple
from updown.model.values import escaped, no_host

NEEDED = "needed"
"""Without it there is no tunnel to speak of: absent or bad refuses the call."""
STRICT = "shapes"
"""Names or shapes a device or a route, by our side's configuration: bad refuses the call."""
TO_MAKE = "makes"
"""The same of verbs that make; for others a bad value counts as absent, as what there is must be able to go."""
OPTIONAL = "optional"
"""A bad value costs a warning and counts as absent: a peer may have chosen it, or nothing of ours hangs on it."""

HINT = "it comes from the connection's configuration: mend it there, and load it again"
SHOWN = 40  # characters of a refused value that a message repeats


class Row(NamedTuple):
    """A variable, the field its value goes to, the function that reads it, and what a bad value means."""

    variable: str
    field: str
    read: Callable[[str], Any]
    weight: str


def read_table(rows: tuple[Row, ...], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Notice]]:
    """Fields of the variables that are set and not empty, and warnings; raises Refused naming the variable."""
    fields: dict[str, Any] = {}
    warnings: list[Notice] = []
    for row in rows:
        given = environ.get(row.variable, "")
        if not given:
            if row.weight == NEEDED:
                raise Refused(f"{row.variable} is not set", "the IKE daemon sets it; by hand, use a saved environment")
            continue
        try:
            fields[row.field] = row.read(given)
        except ValueError as error:
            said = f"{row.variable}={escaped(given, SHOWN)}: {error}"
            if row.weight == OPTIONAL:
                warnings.append(Notice("variable", f"{said}; ignored"))
            elif row.weight != TO_MAKE or fields["verb"].makes:
                raise Refused(said, HINT) from None
    return fields, warnings


def drop_the_peers(fields: dict[str, Any], warnings: list[Notice], rows: Mapping[str, str]) -> None:
    """Leave out addresses assigned to us that are the peer's outer one: with that on a device, nothing reaches the peer.
    `rows`: variables, and the fields they are in."""
    for variable, field in rows.items():
        if fields.get(field) == fields["peer"]:
            warnings.append(Notice("variable", f"{variable}={fields.pop(field)}: the peer's outer address; ignored"))


def context_of(fields: Mapping[str, Any], derived: Mapping[str, Any]) -> Context:
    """The context of these fields, where they are its own by name, and of what is `derived` from them. Raises Refused where
    ends or selectors that a device or route would be made of do not fit each other. Verbs that end make nothing of them: what
    there is must be able to go."""
    direct = {name: value for name, value in fields.items() if name in Context._fields}
    context = Context(**{**direct, **derived})
    keys = (context.mark_in, context.mark_out, context.if_id_in, context.if_id_out)
    if not context.verb.makes or not (context.interface or context.daemon_device or any(keys)):
        return context
    if is_any(context.me):
        raise Refused(f"PLUTO_ME={context.me}: an address of this machine is expected", HINT)
    for variable, end in (("PLUTO_ME", context.me), ("PLUTO_PEER", context.peer)):
        why = "" if is_any(end) else no_host(end)
        if why:
            raise Refused(f"{variable}={end} is {why}, which no host can have", HINT)
    if family(context.me) != family(context.peer) and not is_any(context.peer):
        raise Refused(f"PLUTO_PEER={context.peer}: of another family than PLUTO_ME={context.me}", HINT)
    mine, theirs = context.my_client, context.peer_client
    if mine.family != theirs.family:
        said = escaped(theirs.network.text, SHOWN)
        other = escaped(mine.network.text, SHOWN)
        raise Refused(f"PLUTO_PEER_CLIENT={said}: of another family than PLUTO_MY_CLIENT={other}", HINT)
    return context
