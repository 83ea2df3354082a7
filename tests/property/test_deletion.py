"""`delete = last` and `delete = never` in whatever order libreswan calls, with deaths, refusals and reconcile."""

import pytest

from tests.kit.grammar_libreswan import Libreswan
from tests.kit.machine import Tunnel
from tests.kit.oracle import Oracle, Row
from tests.kit.sequences import SEED, check, made_from

SEQUENCES = 400


class LastOracle(Oracle):
    """Every device goes with its last claim."""

    def row(self, one: Tunnel, initiates: bool) -> Row:
        return super().row(one, initiates)._replace(goes=True)


class NeverOracle(Oracle):
    """None ever goes."""

    def row(self, one: Tunnel, initiates: bool) -> Row:
        return super().row(one, initiates)._replace(goes=False)


class Last(Libreswan):
    """One pluto whose administrator wants nothing left."""

    oracle = LastOracle
    settings = "[defaults]\ndelete = last\n"


class Never(Libreswan):
    """One whose administrator wants devices to stay."""

    oracle = NeverOracle
    settings = "[defaults]\ndelete = never\n"


@pytest.mark.parametrize("daemon", [Last, Never])
def test_random_sequences(daemon: type[Libreswan]) -> None:
    for number in range(SEQUENCES):
        seed = f"{SEED}/{daemon.__name__}/{number}"
        check(daemon, made_from(daemon, seed), f"seed {SEED}, sequence {number}")
