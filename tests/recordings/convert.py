"""Turn a folder of raw recordings into the text kept here; run by hand, when a recording is added.

    python3 tests/recordings/convert.py RAW/libreswan-4.10 tests/recordings/libreswan-4.10

Raw is what a recorder around the hook leaves: SCENARIO/NODE/NNN-VERB.env, each the whole environment of one call as
/proc/PID/environ gives it (NUL separated).  The result is SCENARIO/NODE.jsonl, one call a line, in the order of calls.
Variables keep the order they had; bytes that are not UTF-8 become the surrogates that `os.environ` shows for them.
"""

import json
import sys
from pathlib import Path


def environment(raw: bytes) -> dict[str, str]:
    """The variables of one recorded call."""
    pairs = (entry.split(b"=", 1) for entry in raw.split(b"\0") if entry)
    return {name.decode("ascii"): value.decode("utf-8", "surrogateescape") for name, value in pairs}


def convert(source: Path, target: Path) -> None:
    """Write one file for each node of each scenario below `source` that was called at all."""
    for node in sorted(source.glob("*/*/")):
        calls = sorted(node.glob("*.env"))
        if not calls:
            continue
        lines = [json.dumps({"call": call.stem, "env": environment(call.read_bytes())}) + "\n" for call in calls]
        path = target / node.parent.name / (node.name + ".jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: convert.py RAW-FOLDER TARGET-FOLDER")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
