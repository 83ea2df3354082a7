"""Reads the commands in a page of docs/, and what the page says that they show.

In a block that begins with ```sh each line is a command, together with the lines after it that are indented or begin with
`}` or `done`. Below it may stand, each as often as wanted:

    # shows: TEXT       it succeeds, and its output has TEXT (any run of blanks and line ends is one blank)
    # fails: TEXT       the same, but it ends with another status than 0
    # shows nothing     it succeeds, and prints nothing

A command with nothing below it succeeds. Other lines with `#` are for people. A chapter begins with `## `, and the commands of
the first one that has any come before those of each other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """One command, the line where it begins, whether it has to fail, and what its output has; None: it prints nothing."""

    line: int
    text: str
    fails: bool = False
    resources: tuple[str, ...] = ()
    silent: bool = False

    def differences(self, status: int, output: str) -> list[str]:
        """What is not as the page says."""
        found = [] if bool(status) == self.fails else [f"status {status}"]
        said = _plain(output)
        found += [f"does not show: {want}" for want in self.resources if _plain(want) not in said]
        return found + (["prints something"] if self.silent and said else [])


class Chapter(NamedTuple):
    title: str
    commands: tuple[Command, ...]


def chapters(page: Path) -> list[Chapter]:
    """Those with commands; each but the first begins with the commands of the first."""
    found: dict[str, list[Command]] = {}
    title, inside = "", False
    for number, line in enumerate(page.read_text(encoding="ascii").splitlines(), 1):
        if inside:
            if line.startswith("```"):
                inside = False
            else:
                _read(found.setdefault(title, []), number, line)
        elif line.startswith("## "):
            title = line[3:]
        elif line == "```sh":
            inside = True
    (first, *others) = [Chapter(title, tuple(commands)) for title, commands in found.items()]
    return [first, *(one._replace(commands=first.commands + one.commands) for one in others)]


def _read(commands: list[Command], number: int, line: str) -> None:
    match = re.fullmatch(r"# (shows|fails): (.+)|# (shows nothing)", line)
    if match and not commands:
        raise ValueError(f"line {number}: no command before it")
    if match:
        last = commands[-1]
        wants = last.resources + ((match[2],) if match[2] else ())
        commands[-1] = last._replace(fails=match[1] == "fails", resources=wants, silent=bool(match[3]))
    elif commands and re.match(r"[ \t}]|done", line):
        commands[-1] = commands[-1]._replace(text=f"{commands[-1].text}\n{line}")
    elif line and not line.startswith("#"):
        commands.append(Command(number, line))


def _plain(text: str) -> str:
    return " ".join(text.split())
