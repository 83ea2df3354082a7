"""What pluto cannot show (test_endurance.py): charon's responder sends by a new SA only once the initiator has it."""

from __future__ import annotations

import pytest

from tests.daemon.charon import Charon
from tests.daemon.children import MARK5, MOON, SUN, VTI, initiated, one_child
from tests.daemon.connections import without_trace
from tests.daemon.nodes import Ground
from tests.daemon.rekeying import REKEYING, rekeyed, unchanged

pytestmark = pytest.mark.daemon


def test_rekeying_for_two_minutes_loses_nothing(
    ground: Ground, moon: Charon, sun: Charon, capsys: pytest.CaptureFixture[str]
) -> None:
    sun.load(VTI, one_child(SUN, MOON, **MARK5))
    moon.load(VTI, one_child(MOON, SUN, **MARK5))
    initiated(moon)
    with unchanged(moon, "vti5"), unchanged(sun, "vti5"):
        found = rekeyed(ground, moon, sun, REKEYING, child="net")
    with capsys.disabled():
        print(f"\n{found.children} child and IKE SAs replaced; lost {found.lost}; dropped {found.dropped or 'none'}", end=" ")
    assert found.lost == 0, found
    moon.terminate("net")
    for node in (moon, sun):
        without_trace(node)
