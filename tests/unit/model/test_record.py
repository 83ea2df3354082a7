"""Our records behave as those of `typing`, but are made faster."""

from __future__ import annotations

import copy
import json
import pickle
import typing
from typing import Any, Callable

import pytest

from updown.model.record import NamedTuple, dumps, loads


class Ours(NamedTuple):
    """A record of ours."""

    name: str
    size: int = 3
    more: tuple[str, ...] = ()

    @property
    def long(self) -> str:
        return f"{self.name} {self.size}"


class Theirs(typing.NamedTuple):
    """The same as typing makes it."""

    name: str
    size: int = 3
    more: tuple[str, ...] = ()

    @property
    def long(self) -> str:
        return f"{self.name} {self.size}"


def behaves(kind: Any) -> Any:
    """A kind of record with more behaviour."""

    class More(kind):  # type: ignore[misc]
        def twice(self) -> Any:
            return self.size * 2

    return More("a", size=4).twice(), More("a") == kind("a"), More("a")._replace(size=5).twice()


USES: dict[str, Callable[[Any], object]] = {
    "by position": lambda kind: tuple(kind("a", 1, ("b",))),
    "defaults": lambda kind: tuple(kind("a")),
    "by name": lambda kind: tuple(kind(size=1, name="a")),
    "mixed": lambda kind: tuple(kind("a", more=("b",))),
    "fields": lambda kind: (kind._fields, kind._field_defaults),
    "getters": lambda kind: (kind("a").name, kind("a").size, kind("a").long),
    "replaced": lambda kind: tuple(kind("a")._replace(size=5)),
    "replaced is of the kind": lambda kind: type(kind("a")._replace(size=5)) is kind,
    "as a dictionary": lambda kind: kind("a")._asdict(),
    "made of a list": lambda kind: tuple(kind._make(["a", 1, ()])),
    "a tuple": lambda kind: isinstance(kind("a"), tuple) and kind("a") == ("a", 3, ()),
    "hashed and ordered": lambda kind: (hash(kind("a")) == hash(("a", 3, ())), kind("a") < kind("b")),
    "shown": lambda kind: repr(kind("a", 1)).replace(kind.__name__, ""),
    "unpacked": lambda kind: [*kind("a", 1)],
    "copied": lambda kind: (copy.copy(kind("a")) == kind("a"), copy.deepcopy(kind("a")) == kind("a")),
    "pickled": lambda kind: pickle.loads(pickle.dumps(kind("a"))) == kind("a"),
    "without a dictionary": lambda kind: hasattr(kind("a"), "__dict__"),
    "with more behaviour": behaves,
    "described": lambda kind: bool(kind.__doc__),
}
MISUSES: dict[str, tuple[Callable[[Any], object], Any]] = {
    "too few": (lambda kind: kind(), TypeError),
    "too many": (lambda kind: kind("a", 1, (), 4), TypeError),
    "twice": (lambda kind: kind("a", name="b"), TypeError),
    "unknown": (lambda kind: kind("a", other=1), TypeError),
    "unknown to replace": (lambda kind: kind("a")._replace(other=1), (TypeError, ValueError)),  # the former since Python 3.13
    "changed": (lambda kind: setattr(kind("a"), "name", "b"), AttributeError),
    "another attribute": (lambda kind: setattr(kind("a"), "other", "b"), AttributeError),
    "too few to make it of": (lambda kind: kind._make([]), TypeError),
}


@pytest.mark.parametrize("use", USES)
def test_it_does_what_the_original_does(use: str) -> None:
    assert USES[use](Ours) == USES[use](Theirs)


@pytest.mark.parametrize("use", MISUSES)
def test_it_refuses_what_the_original_refuses(use: str) -> None:
    does, error = MISUSES[use]
    for kind in (Theirs, Ours):
        with pytest.raises(error):
            does(kind)


@pytest.mark.parametrize(
    "value", [[1, "\u00e9\udc80", None, True, ["x", []]], {"a": 1}, "plain", [], 5, 2**70, [Ours("q"), ()]], ids=repr
)
def test_a_text_is_that_of_the_json_package_and_reads_back(value: object) -> None:
    assert dumps(value) == json.dumps(value)
    assert loads(dumps(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[1", "[1] x", "{", "nul", "[1,]", '"\x00"', " [1]", '"'])
def test_what_we_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        loads(text)
