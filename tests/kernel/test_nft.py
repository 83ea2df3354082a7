"""Our tables as the real nft takes them, and as we read them again."""

from __future__ import annotations

import pytest

from updown.kernel import nft
from updown.model.errors import KernelError
from updown.model.resources import Clamp

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("namespace")]

CLAMPS = (
    Clamp("vti5", 1438),
    Clamp("vti5"),
    Clamp("vti5", 1438, slave=True),
    Clamp("vti5", slave=True),
    Clamp("0-v_t.i-"),
    Clamp("include"),
    Clamp("vti5", size=1379),
    Clamp("vti5", slave=True, size=88),
    Clamp("ABCDEFGHIJKLMNO", 65515),
)


@pytest.mark.parametrize("clamp", CLAMPS, ids=str)
def test_a_table_is_made_read_back_replaced_and_deleted(clamp: Clamp) -> None:
    nft.put_table(clamp)
    assert nft.read_table(clamp.device) == clamp
    nft.put_table(clamp._replace(mtu=1280, size=0))
    assert nft.read_table(clamp.device) == clamp._replace(mtu=1280, size=0)
    assert nft.clamped_devices() == [clamp.device]
    nft.delete_table(clamp.device)
    assert nft.clamped_devices() == []
    with pytest.raises(KernelError, match="delete table inet"):
        nft.delete_table(clamp.device)
