"""What a refused look-up of a route means: there is none, or the question was wrong."""

from __future__ import annotations

import errno

import pytest

from updown.kernel.netlink.routing import Lookup, Match
from updown.kernel.netlink.socket import refusal
from updown.kernel.netlink.wire import Request
from updown.model.errors import KernelError


class Refusing(Lookup):
    """A socket whose every question is refused, with this number and the kernel's own reason."""

    def __init__(self, number: int, reason: str = "") -> None:
        self.said = number, reason

    def _one(self, request: Request, what: str) -> bytes:
        del request
        raise refusal(what, *self.said)


@pytest.mark.parametrize(
    "number", [errno.ENETUNREACH, errno.EOPNOTSUPP, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL], ids=errno.errorcode.get
)
def test_a_bare_number_is_the_answer_and_one_with_a_reason_is_about_the_question(number: int) -> None:
    assert Refusing(number).match("10.2.0.1") == Match(None, number)
    with pytest.raises(KernelError, match="Invalid header for a route"):
        Refusing(number, "Invalid header for a route.").match("10.2.0.1")


def test_a_device_that_is_not_there_is_told_whatever_the_reason() -> None:
    assert Refusing(errno.ENODEV, "No such device.").match("10.2.0.1", oif=5) == Match(None, errno.ENODEV)
    with pytest.raises(KernelError):
        Refusing(errno.ENODEV).match("10.2.0.1")


def test_what_is_no_address_is_never_a_blackhole() -> None:
    with pytest.raises(KernelError, match="is not an IP address") as caught:
        Refusing(errno.EINVAL).match("nowhere")
    assert caught.value.errno == errno.EINVAL
