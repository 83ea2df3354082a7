"""The kernel's policies beside the claims that end: whose they are, and how often they are looked through."""

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, WEST, Machine, Tunnel, establish
from updown.model import ipsec
from updown.model.claims import Claim
from updown.model.ipsec import Database, IpsecIndex, Key, Policy, without_policies_of
from updown.plan import scope

CLAIMS = 400


class Indexes:
    """Counts the indexes that are made, and the policies in them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.real = ipsec.index
        patch.setattr(ipsec, "index", self.index)

    def index(self, xfrm: Database) -> IpsecIndex:
        self.sizes.append(len(xfrm.policies))
        return self.real(xfrm)


def claim_and_policies(machine: Machine, count: int) -> tuple[list[Claim], list[Policy]]:
    """Claims like one of the machine's, each for other networks, and for each a policy out and one in."""
    machine.send_all(establish(Tunnel()))
    (one,) = machine.claims()
    claims, policies = [], []
    for number in range(count):
        mine, theirs = "10.1.0.0/24", f"10.{2 + number // 256}.{number % 256}.0/24"
        claims.append(one._replace(key=str(number), sa=one.sa._replace(my_client=mine, peer_client=theirs)))
        policies.append(Policy("out", mine, theirs, key=Key(5, 0xFFFFFFFF)))
        policies.append(Policy("in", theirs, mine, key=Key(5, 0xFFFFFFFF)))
    return claims, policies


def test_however_many_claims_end_the_policies_are_indexed_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    claims, policies = claim_and_policies(machine, CLAIMS)
    stranger = Policy("out", "10.1.0.0/24", "10.200.0.0/24", key=Key(5, 0xFFFFFFFF))
    indexes = Indexes(monkeypatch)
    others = without_policies_of(claims, [*policies, stranger])
    assert [policy for policy in others.policies if policy.direction == "out"] == [stranger]
    assert indexes.sizes == [2 * CLAIMS + 1]


def test_an_event_that_leaves_several_devices_reads_the_policies_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two interfaces of one child, and a ledger that was lost."""
    machine.settings("[defaults]\ninterface = ipsec{if_id}\nrouting = yes\n")
    child = Child("c", WEST, EAST, mark_in="", mark_out="", if_id_in="7", if_id_out="8")
    machine.send(charon_call(child, "up"))
    with machine.ledger() as ledger, ledger.transaction():
        for name in ("ipsec7", "ipsec8"):
            ledger.set_made(f"device {name}", -1)
    dumps: list[int] = []
    policies = machine.kernel.policies

    def counted() -> list[Policy]:
        dumps.append(1)
        return policies()

    monkeypatch.setattr(machine.kernel, "policies", counted)
    indexes = Indexes(monkeypatch)
    left: list[int] = []
    monkeypatch.setattr(scope, "in_use", lambda *_: left.append(1))
    machine.send(charon_call(child, "down"))
    assert (len(left), len(dumps), len(indexes.sizes)) == (2, 1, 1)
