"""What programs read: the kinds of operations, reasons and warnings."""

from __future__ import annotations

from updown.model.errors import Notice
from updown.model.objects import Link
from updown.model.operations import Operation, Reason, Report
from updown.model.resources import Sysctl
from updown.output.report import report_fields

LINK = Link("vti5", "vti", local="192.0.2.1", remote="192.0.2.2", ikey=5, okey=5)


def test_operations_reasons_and_warnings_have_a_kind() -> None:
    made = Operation("link add", LINK, reason=Reason("needs its device", "t"))
    loose = Operation("sysctl", Sysctl("vti5", "ipv4/conf/vti5/rp_filter", "2"), reason=Reason("rp_filter", "t"))
    fields = report_fields(Report("t", (made, loose), (Notice("conflict", "vti5 is another's"),)))
    shown = [(one["resource"], one["action"], one["reason_kind"]) for one in fields["operations"]]
    assert shown == [("device", "link add", "needs its device"), ("sysctl", "sysctl", "rp_filter")]
    assert fields["operations"][0]["kind"] == "vti"
    assert fields["warnings"] == [{"kind": "conflict", "text": "vti5 is another's"}]
