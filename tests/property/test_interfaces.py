"""XFRM interfaces by if_id, in whatever order charon calls: one for a child, one for gateways with several local ends, and one
for each SA.

Random sequences with deaths, refusals and reconcile, as in test_sequences.py.
"""

import pytest

from tests.kit.interfaces import Interfaces
from tests.kit.sequences import SEED, check, made_from

SEQUENCES = 1500
LOTS = 5


@pytest.mark.parametrize("lot", range(LOTS))
def test_random_sequences(lot: int) -> None:
    for number in range(lot, SEQUENCES, LOTS):
        check(Interfaces, made_from(Interfaces, f"{SEED}/interfaces/{number}"), f"seed {SEED}, sequence {number}")
