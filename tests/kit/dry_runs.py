"""Recorded calls with --dry-run."""

from __future__ import annotations

import subprocess

from tests import TOP
from tests.kernel.calls import fork
from tests.recordings import Call

HOOK = TOP / "hooks" / "vti-updown"


def dry_run(python: list[str], call: Call) -> list[str]:
    """The plan; the environment is the recorded one and nothing else."""
    if not python:
        said = fork("--dry-run", environment=call.environment)
        return _in_order(call, said.status, "\n".join(said.lines))
    done = subprocess.run(
        [*python, str(HOOK), "--dry-run"],
        env=call.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd="/",
        timeout=60,
    )
    output = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
    _in_order(call, done.returncode, output)
    return done.stdout.decode("utf-8", "backslashreplace").splitlines()


def _in_order(call: Call, status: int, output: str) -> list[str]:
    """The lines of a call that ended well."""
    assert status == 0, f"{call.name}: status {status}\n{output}"
    for sign in ("Traceback", "Error:", "Exception", "Warning:"):
        assert sign not in output, f"{call.name}:\n{output}"
    return output.splitlines()
