"""The house as it is drawn: rooms on floors. docs/architecture.md shows it, tests/unit/test_structure.py holds it."""

FLOORS = {
    "hook": "one call: environment -> exit status; errors become lines here",
    "commands": "what people type, one module or folder a command",
    "serve": "an event under the lock, with what waits in the spool",
    "event": "what an event does to the claims, and what a claim asks for",
    "transaction": "claims written, looked at, planned, applied, finished",
    "output": "lines, reports and operations as iproute2 commands",
    "plan": "what there should be against what there is: operations in their order",
    "kernel": "the only effects on the kernel, and the only pyroute2",
    "ledger": "claims on disk, the lock, the spool, last failures, the clock",
    "concerns": "one pure module for each thing a tunnel needs",
    "daemons": "what each daemon says: its variables, its rules of claims, its own answers",
    "settings": "the administrator's file",
    "model": "the nouns: records, values, errors",
}
"""From top to bottom; a room imports its own modules and those of lower rooms. docs/architecture.md shows the same table."""
