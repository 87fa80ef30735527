"""Frozen values with named fields, as `dataclass(frozen=True, slots=True)` makes them, for less.

    class Head(Value):
        seq: int
        digest: str = ""

Rules: a dataclass takes up to a millisecond to be made and a NamedTuple a fifth of that, for what
is compiled; here it is some 30 microseconds, and the program for a claim makes forty such classes.
Where many values of one class are made, it gets the initialiser that `dataclasses` compiles, which
is three times as fast. Fields are the names with an annotation, those of the base first. Two values
are equal if they are of one class and have the same fields. `dataclasses` takes them for its own
(`fields`, `replace`, `asdict`), and is imported when somebody asks it.

The class is no tuple: what is taken apart by its places is a NamedTuple.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar, dataclass_transform

    _T = TypeVar("_T")
else:  # it says something to type checkers only, and typing takes long to import

    def dataclass_transform(**_: object) -> Callable[[_T], _T]:
        return lambda cls: cls


MANY = 500  # values of a class: then it pays to compile its initialiser
_made: dict[type, int] = {}  # how many there are, of each class


def _as_dataclass(cls: type[Value]) -> Any:
    """The dataclass that it would be."""
    import dataclasses  # noqa: PLC0415 - see above

    body = {"__annotations__": cls._annotated, "__module__": cls.__module__} | cls._defaults
    for name, value in cls._defaults.items():
        if type(value).__hash__ is None:  # an empty list, which dataclasses want to be made anew
            body[name] = dataclasses.field(default_factory=value.copy)
    return dataclasses.dataclass(frozen=True)(type(cls.__name__, (), body))


class _DataclassFields:
    """What `dataclasses` looks for in a class."""

    def __get__(self, value: object, cls: type[Value]) -> dict[str, Any]:
        found: dict[str, Any] = _as_dataclass(cls).__dataclass_fields__
        return found


def _initialise(self: Value, *given: Any, **named: Any) -> None:
    cls = type(self)
    if named or len(given) != len(cls._fields):
        given = _completed(cls, given, named)
    for put, value in zip(cls._setters, given, strict=True):
        put(self, value)
    _made[cls] = count = _made.get(cls, 0) + 1
    if count == MANY:
        cls.__init__ = _as_dataclass(cls).__init__  # type: ignore[method-assign]


@dataclass_transform(frozen_default=True)
class _Maker(type):
    """Makes slots of the annotations, and keeps the defaults beside them."""

    _annotated: dict[str, Any]
    _defaults: dict[str, Any]
    _fields: tuple[str, ...]
    _setters: tuple[Callable[[object, Any], None], ...]

    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **_: object
    ) -> _Maker:
        own: dict[str, Any] = body.get("__annotations__", {}) if bases else {}
        defaults = {field: body.pop(field) for field in own if field in body}
        ours = {"__slots__": tuple(own), "__init__": _initialise}
        made = super().__new__(cls, name, bases, body | ours)
        base: Any = made.__base__
        made._annotated = getattr(base, "_annotated", {}) | own
        made._defaults = getattr(base, "_defaults", {}) | defaults
        made._fields = tuple(made._annotated)
        made._setters = tuple(getattr(made, field).__set__ for field in made._fields)
        return made

    @property
    def __match_args__(cls) -> tuple[str, ...]:
        return cls._fields


class Value(metaclass=_Maker):
    """A value whose fields are its class's annotations."""

    __dataclass_fields__ = _DataclassFields()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), self._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in type(self)._fields])

    def _asdict(self) -> dict[str, Any]:
        """As a named tuple's."""
        return dict(zip(type(self)._fields, self._values(), strict=True))

    def _replace(self, **changes: Any) -> Self:
        """As a named tuple's: the value with other values in some fields."""
        return type(self)(**self._asdict() | changes)


def _completed(cls: type[Value], given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """The values of all fields, in their order. Raises TypeError, as a call does."""
    fields = cls._fields
    placed = dict(zip(fields, given, strict=False))
    if len(given) > len(fields) or not placed.keys().isdisjoint(named):
        raise TypeError(f"{cls.__name__} has the fields {', '.join(fields)}")
    every = cls._defaults | placed | named
    if every.keys() != cls._annotated.keys():
        wrong = ", ".join(sorted(every.keys() ^ cls._annotated.keys()))
        raise TypeError(f"{cls.__name__}: missing or unknown: {wrong}")
    return tuple([every[name] for name in fields])
