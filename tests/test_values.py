"""Frozen values: what a frozen dataclass with slots would do, they do."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from coordledger import values
from coordledger.values import Value


class Place(Value):
    """Where it is."""

    seq: int
    name: str = "here"
    more: tuple[int, ...] = ()


class Wider(Place):
    room: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    seq: int
    name: str = "here"
    more: tuple[int, ...] = ()


def test_fields_are_given_by_place_and_by_name_and_have_defaults() -> None:
    place = Place(1, more=(2,))
    assert (place.seq, place.name, place.more) == (1, "here", (2,))
    assert Wider(1, room=3) == Wider(1, "here", (), 3)
    assert Wider(1) != Place(1)
    assert repr(place) == repr(Twin(1, more=(2,))).replace("Twin", "Place")


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((1, "a", (), 4), {}), ((1,), {"seq": 2}), ((1,), {"nmae": "a"})],
    ids=["one is missing", "too many", "twice", "unknown"],
)
def test_a_call_that_does_not_fit_is_a_type_error(given: tuple, named: dict) -> None:
    for cls in (Place, Twin):
        with pytest.raises(TypeError):
            cls(*given, **named)


def test_a_value_cannot_be_changed() -> None:
    place = Place(1)
    with pytest.raises(AttributeError):
        place.seq = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del place.seq
    with pytest.raises(AttributeError):
        place.other = 2  # type: ignore[attr-defined]
    assert place._replace(seq=2) == Place(2)
    assert place == Place(1)
    with pytest.raises(TypeError):
        place._replace(other=2)


def test_equal_values_have_one_hash_and_are_copied_and_pickled() -> None:
    place = Place(1, "a", (1, 2))
    assert len({place, Place(1, "a", (1, 2)), Place(1, "b", (1, 2))}) == 2
    assert copy.deepcopy(place) == place
    assert pickle.loads(pickle.dumps(place)) == place


def test_pythons_dataclasses_takes_them_for_its_own() -> None:
    place = Wider(1)
    assert dataclasses.is_dataclass(Wider)
    assert [one.name for one in dataclasses.fields(place)] == ["seq", "name", "more", "room"]
    assert dataclasses.asdict(place) == {"seq": 1, "name": "here", "more": (), "room": 1}
    assert dataclasses.replace(place, seq=3) == Wider(3)
    match place:
        case Wider(seq, name):
            assert (seq, name) == (1, "here")


def test_of_many_all_are_made_alike_whether_the_first_or_the_last() -> None:
    class Many(Place):
        notes: list[str] = []  # noqa: RUF012 - as where nobody changes it

    class More(Many):
        extra: int = 0

    made = [Many(number, name="a") for number in range(values.MANY + 3)]
    assert made == [Many(number, "a") for number in range(values.MANY + 3)]
    assert More(1, extra=2).extra == 2  # of the class above, which has another initialiser by now
    for broken in ({}, {"seq": 1, "other": 2}):
        with pytest.raises(TypeError):
            Many(**broken)
    with pytest.raises(AttributeError):
        made[-1].seq = 2
