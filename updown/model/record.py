"""Records: NamedTuple as `typing` has it, but without code compiled for each class, which was a quarter of a hook's start.

To a type checker this is typing.NamedTuple. At run time a class is made from the names of its annotations and the C getters
that namedtuple uses too; tests/unit/model/test_record.py holds it against the original.

Nothing of ours imports `typing` at run time, which would be a tenth of a hook's start: `Any` stands here too, and type checkers
also know a module's own TYPE_CHECKING."""

from __future__ import annotations

import sys
from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
else:
    Any = object  # of annotations alone, which nothing evaluates

if TYPE_CHECKING or sys.version_info >= (3, 14):  # where annotations are no dictionary any more
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    _getters = [_tuplegetter(place, None) for place in range(16)]  # one for each place serves the records of all classes

    class _Made(type):
        """Makes the class of a record: a tuple with a getter for each field."""

        def __new__(cls, name, bases, inside):
            for base in bases:
                if getattr(base, "_fields", ()):  # a record with more behaviour: no fields are added
                    return type.__new__(cls, name, bases, inside)
            fields = inside["_fields"] = inside["__match_args__"] = tuple(inside.get("__annotations__", ()))
            inside["_field_defaults"] = {field: inside[field] for field in fields if field in inside}
            while len(_getters) < len(fields):
                _getters.append(_tuplegetter(len(_getters), None))
            inside.update(zip(fields, _getters))
            inside["__slots__"] = ()
            return type.__new__(cls, name, bases, inside)

    class NamedTuple(tuple, metaclass=_Made):
        """The base of all records; it has no fields itself."""

        def __new__(cls, *values, **named):
            fields = cls._fields
            if named or len(values) != len(fields):
                values = (*values, *cls._rest(fields[len(values) :], named))
                if len(values) != len(fields):
                    raise TypeError(f"{cls.__name__} takes {len(fields)} values, not {len(values)}")
            return tuple.__new__(cls, values)

        @classmethod
        def _rest(cls, fields, named):
            """The values of the last fields, by name or default."""
            if not named.keys() <= set(fields):
                raise TypeError(f"{cls.__name__} takes no {', '.join(sorted(named.keys() - set(fields)))} here")
            try:
                return [named[field] if field in named else cls._field_defaults[field] for field in fields]
            except KeyError as missing:
                raise TypeError(f"{cls.__name__} needs {missing}") from None

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **changed):
            made = tuple.__new__(type(self), map(changed.pop, self._fields, self))
            if changed:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changed)}")
            return made

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self))

        def __repr__(self):
            said = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self))
            return f"{type(self).__name__}({said})"

        def __getnewargs__(self):
            return tuple(self)


class _Rules:
    """How `loads` reads: as json.loads does."""

    strict, object_hook, object_pairs_hook = True, None, None
    parse_float, parse_int, parse_constant = float, int, float


def dumps(value: Any) -> str:
    """The JSON text of lists, tuples, records, text and numbers, by the C code of `json` without its package, which imports
    `re`: an eighth of a hook's start. Equal values have equal texts."""
    encode = make_encoder(None, repr, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return "".join(encode(value, 0))


def loads(text: str) -> Any:
    """The value of a JSON text without white space around it. Raises ValueError for anything else."""
    rules: Any = _Rules
    try:
        value, end = make_scanner(rules)(text, 0)
    except (StopIteration, SystemError):  # the latter where it looks for json.decoder's error, which is not imported
        end = -1
    if end != len(text):
        raise ValueError("no JSON")
    return value
