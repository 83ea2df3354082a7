"""The commands in docs/marks-and-ids.md, run as they stand there, show what the page says.

Each chapter has network namespaces of its own, and a folder /run/netns of its own for their names.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import TOP
from tests.kernel import document
from tests.kernel.document import Chapter

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

PAGE = TOP / "docs" / "marks-and-ids.md"
ALONE = """
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
"""


def script(chapter: Chapter, folder: Path) -> str:
    """A shell script that keeps the status and the output of each command."""
    parts = [
        f"{{ {command.text}\n}} >{folder}/{number} 2>&1 </dev/null; echo $? >{folder}/{number}.status\n"
        for number, command in enumerate(chapter.commands)
    ]
    return ALONE + "".join(parts)


@pytest.mark.parametrize("chapter", document.chapters(PAGE), ids=lambda chapter: chapter.title.replace(" ", "-"))
def test_each_command_shows_what_the_page_says(chapter: Chapter, tmp_path: Path) -> None:
    """All differences of a chapter are told together, each with what the command printed."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "bash", "-c", script(chapter, tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "")
    found = []
    for number, command in enumerate(chapter.commands):
        output = (tmp_path / str(number)).read_text(errors="backslashreplace")
        different = command.differences(int((tmp_path / f"{number}.status").read_text()), output)
        if different:
            found.append(f"line {command.line}: {command.text}\n    {'; '.join(different)}\n{output}")
    assert not found, "\n".join(found)
