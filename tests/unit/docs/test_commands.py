"""How the commands of docs/marks-and-ids.md are read and judged; tests/kernel/test_marks_and_ids.py runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import TOP
from tests.kernel import document
from tests.kernel.document import Chapter, Command

PAGE = TOP / "docs" / "marks-and-ids.md"
TEXT = """
Not a command: ip link

## First

```sh
one() {
    echo 1
}
for each in a b; do
    one $each
done
# a remark
```

## Second

```text
ip link
```

```sh
one
# shows: 1
two
# fails: no
# fails: not found
three
# shows nothing
```
"""


def test_commands_are_read_with_what_they_show(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(TEXT)
    first, second = document.chapters(page)
    assert [command.text for command in first.commands] == [
        "one() {\n    echo 1\n}",
        "for each in a b; do\n    one $each\ndone",
    ]
    assert second.commands[:2] == first.commands
    assert second.commands[2:] == (
        Command(23, "one", False, ("1",)),
        Command(25, "two", True, ("no", "not found")),
        Command(28, "three", silent=True),
    )


@pytest.mark.parametrize(
    ("command", "status", "output", "wanted"),
    [
        (Command(1, "x"), 0, "anything", []),
        (Command(1, "x"), 2, "", ["status 2"]),
        (Command(1, "x", resources=("a b",)), 0, "c a\n   b d", []),
        (Command(1, "x", resources=("a b",)), 0, "a c b", ["does not show: a b"]),
        (Command(1, "x", True, ("a",)), 1, "a", []),
        (Command(1, "x", True, ("a",)), 0, "a", ["status 0"]),
        (Command(1, "x", silent=True), 0, "\n", []),
        (Command(1, "x", silent=True), 0, "a", ["prints something"]),
    ],
)
def test_what_differs_from_the_page_is_told(command: Command, status: int, output: str, wanted: list[str]) -> None:
    assert command.differences(status, output) == wanted


@pytest.mark.parametrize("chapter", document.chapters(PAGE), ids=lambda chapter: chapter.title.replace(" ", "-"))
def test_each_command_of_the_page_is_bash_and_something_is_shown(chapter: Chapter) -> None:
    laboratory = document.chapters(PAGE)[0]
    own = chapter.commands if chapter == laboratory else chapter.commands[len(laboratory.commands) :]
    assert chapter == laboratory or any(command.resources for command in own)
    for command in own:
        assert subprocess.run(["bash", "-n", "-c", command.text]).returncode == 0, command
