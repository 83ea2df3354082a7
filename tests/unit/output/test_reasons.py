"""Every reason that the library gives has its sentence, and every sentence a reason."""

import ast
from pathlib import Path

from tests import TOP
from updown.concerns import sysctls
from updown.output.reasons import SENTENCES


def codes_in(path: Path) -> set[str]:
    """The first word of each Reason that a module makes."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Reason"]
    found = [node for first in made for node in ast.walk(first) if isinstance(node, ast.Constant)]
    return {node.value for node in found if isinstance(node.value, str)}


def test_every_reason_has_a_sentence_and_every_sentence_a_reason() -> None:
    made = {code for path in TOP.glob("updown/**/*.py") for code in codes_in(path)}
    files = {
        "disable_policy",
        "forwarding",
        "accept_ra",
        "send_redirects",
        "accept_redirects",
        "addr_gen_mode",
        "rp_filter",
        "keep_addr_on_down",
    }
    assert all(f'"{name}"' in Path(sysctls.__file__).read_text() for name in files)
    assert made - {"/"} | files == set(SENTENCES)
