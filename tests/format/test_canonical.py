"""Section 2: bytes <-> value."""

import importlib.util
import json
import subprocess
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_ledger import refused
from support.strategies import TEXTS, values

from coordledger.format import canonical


@pytest.fixture(scope="module", params=["c", "package"], autouse=True)
def implementation(request):
    """Not every Python has the C functions: what is promised here, it promises without them."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "package":
            names = ("_to_text", "_from_text", "_from_trusted_text")
            for name, function in zip(names, canonical._with_package(), strict=True):
                patch.setattr(canonical, name, function)
        yield request.param


NESTED_8 = b'{"a":[[[[[[[]]]]]]]}'
NESTED_9 = b'{"a":[[[[[[[[]]]]]]]]}'

WRITTEN = [
    ({"b": 1, "a": [True, False, None]}, b'{"a":[true,false,null],"b":1}'),
    ({"\U0001f600": 1, "\uffee": 2, "Z": 3, "a": 4}, None),
    ('"\\/', b'"\\"\\\\/"'),
    ("\b\t\n\f\r", b'"\\b\\t\\n\\f\\r"'),
    ("\x00\x1f\x7f\x80\u2028", b'"\\u0000\\u001f\\u007f\\u0080\\u2028"'),
    ("é\U0001f600", b'"\\u00e9\\ud83d\\ude00"'),
    (2**53 - 1, b"9007199254740991"),
    (-(2**53) + 1, b"-9007199254740991"),
    (0, b"0"),
    ("", b'""'),
]

REFUSED = {
    "white space after a comma": (b'{"a":1, "b":2}', "not-canonical"),
    "white space at the end": (b'{"a":1}\n', "not-canonical"),
    "white space at the start": (b' {"a":1}', "not-canonical"),
    "members out of order": (b'{"b":1,"a":2}', "not-canonical"),
    "members in the order of UTF-16": (
        b'{"\\ud83d\\ude00":1,"\\uffee":2}',
        "not-canonical",
    ),
    "a name twice": (b'{"a":1,"a":1}', "bad-json"),
    "a name twice, spelled in two ways": (b'{"a":1,"\\u0061":1}', "bad-json"),
    "a name twice, nested": (b'{"x":[{"a":1,"a":2}]}', "bad-json"),
    "a fraction": (b"1.0", "bad-json"),
    "an exponent": (b"1e2", "bad-json"),
    "minus zero": (b"-0", "not-canonical"),
    "a leading zero": (b"01", "bad-json"),
    "a plus sign": (b"+1", "bad-json"),
    "an integer of 2^53": (b"9007199254740992", "bad-json"),
    "an integer of -2^53": (b"-9007199254740992", "bad-json"),
    "an integer of many digits": (b"9" * 10_000, "bad-json"),
    "NaN": (b"NaN", "bad-json"),
    "Infinity": (b"[-Infinity]", "bad-json"),
    "an escape in upper case": (b'"\\u00E9"', "not-canonical"),
    "an escape that is not needed": (b'"\\u0041"', "not-canonical"),
    "a slash that is escaped": (b'"\\/"', "not-canonical"),
    "a long escape where a short one exists": (b'"\\u000a"', "not-canonical"),
    "a raw control character": (b'"\x01"', "bad-json"),
    "a raw DEL": (b'"\x7f"', "not-canonical"),
    "a raw character of UTF-8": ('"é"'.encode(), "bad-json"),
    "bytes that are not UTF-8": (b'"\xff"', "bad-json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "bad-json"),
    "a lone high surrogate": (b'"\\ud83d"', "bad-json"),
    "a lone low surrogate": (b'"\\ude00"', "bad-json"),
    "surrogates in the wrong order": (b'"\\ude00\\ud83d"', "bad-json"),
    "a lone surrogate as a name": (b'{"\\ud83d":1}', "bad-json"),
    "a lone surrogate in a list": (b'[["\\udfff"]]', "bad-json"),
    "nine levels": (NESTED_9, "bad-json"),
    "nine levels of objects": (b'{"a":' * 9 + b"1" + b"}" * 9, "bad-json"),
    "very many levels": (b"[" * 60_000 + b"]" * 60_000, "bad-json"),
    "two values": (b"{}{}", "bad-json"),
    "nothing": (b"", "bad-json"),
    "half a value": (b'{"a":', "bad-json"),
    "a comma at the end": (b"[1,]", "bad-json"),
    "single quotes": (b"{'a':1}", "bad-json"),
    "a comment": (b"[1/**/]", "bad-json"),
}


@pytest.mark.parametrize(("value", "data"), WRITTEN)
def test_a_value_is_written_in_its_one_form(value, data):
    if data is not None:
        assert canonical.encode(value) == data
    assert canonical.decode(canonical.encode(value)) == value


def test_names_are_sorted_by_code_points_rather_than_by_utf_16():
    value = {"\U0001f600": 1, "\uffee": 2, "Z": 3, "a": 4, "": 5, "aa": 6}
    assert list(canonical.decode(canonical.encode(value))) == ["", "Z", "a", "aa", "\uffee", "😀"]


@pytest.mark.parametrize("why", REFUSED)
def test_a_reader_refuses(why):
    data, code = REFUSED[why]
    assert refused(canonical.decode, data) == code


def test_eight_levels_are_read():
    assert canonical.encode(canonical.decode(NESTED_8)) == NESTED_8


def test_a_payload_of_exactly_the_limit_is_read_and_one_byte_more_is_not():
    text = b'"' + b"x" * (131_072 - 2) + b'"'
    assert len(canonical.decode(text)) == 131_070
    assert refused(canonical.decode, b'"x' + text[1:]) == "too-large"


def test_true_is_not_one():
    assert canonical.encode(True) != canonical.encode(1)
    assert canonical.decode(b"true") is True
    assert type(canonical.decode(b"1")) is int


@given(values())
def test_decoding_gives_back_what_was_encoded(value):
    data = canonical.encode(value)
    found = canonical.decode(data)
    assert found == value
    assert canonical.encode(found) == data


@given(values())
def test_it_is_the_form_that_the_specification_names(value):
    wanted = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    assert canonical.encode(value) == wanted.encode()


@given(values(3), st.data())
def test_any_other_spelling_of_a_value_is_refused(value, data):
    written = canonical.encode(value)
    at = data.draw(st.integers(0, len(written)))
    other = written[:at] + data.draw(st.sampled_from([b" ", b"\n", b"\t"])) + written[at:]
    found = refused(canonical.decode, other)
    if not found:  # then it fell into a string and says something else
        assert canonical.decode(other) != value
    assert found in ("", "not-canonical", "bad-json")


@given(st.binary(max_size=60))
def test_whatever_is_read_is_written_back_as_it_was(data):
    if not refused(canonical.decode, data):
        assert canonical.encode(canonical.decode(data)) == data


@given(TEXTS)
def test_the_size_of_a_text_is_what_it_takes_between_its_quotation_marks(text):
    assert canonical.size(text) == len(canonical.encode(text)) - 2


def test_the_size_counts_escapes_rather_than_characters():
    assert canonical.size("aé\n😀") == 1 + 6 + 2 + 12


def test_a_python_without_the_c_functions_uses_the_package():
    code = (
        "import sys; sys.modules['_json'] = None\n"
        "from coordledger.format import canonical\n"
        "assert canonical._to_text.__self__.__class__.__module__ == 'json.encoder'\n"
        "assert canonical.encode(canonical.decode(b'[1]')) == b'[1]'\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


# -- the C functions are private to the standard library, and may be others in the next one

_json = sys.modules["_json"]  # which one of the tests above is without


def _raises(fault):
    def act(*_args, **_kwargs):
        raise fault

    return act


def _scanner(change):
    """A scanner that makes `change(value)` of what the real one reads."""

    def make(context):
        scan = _json.make_scanner(context)
        return lambda text, at: (change(scan(text, at)[0]), len(text))

    return make


class _Laxly:
    """Rules of the scanner that give floats and take names twice, like json.loads."""

    strict, object_hook, array_hook, object_pairs_hook = True, None, None, None
    parse_int, parse_float, parse_constant = int, float, float


OTHERWISE = {
    "no encoder": {"make_encoder": None},
    "no scanner": {"make_scanner": None},
    "no escaping": {"encode_basestring_ascii": None},
    "an encoder that takes one argument less": {
        "make_encoder": lambda a, b, c, d, e, f, g, h: _json.make_encoder
    },
    "an encoder that wants names": {"make_encoder": lambda *, sort_keys, skipkeys: None},
    "an encoder in another order": {
        "make_encoder": lambda *a: _json.make_encoder(*a[:4], a[5], a[4], *a[6:])
    },
    "an encoder that does not sort": {
        "make_encoder": lambda *a: _json.make_encoder(*a[:6], False, *a[7:])
    },
    "an encoder that gives one text": {
        "make_encoder": lambda *a: lambda value, level: json.dumps(value, sort_keys=True)
    },
    "an encoder that breaks": {"make_encoder": lambda *a: _raises(SystemError("bad call"))},
    "an escaping that leaves what is not ASCII": {
        "encode_basestring_ascii": json.encoder.encode_basestring
    },
    "a scanner that wants more of its rules": {"make_scanner": lambda rules: rules.number_hook},
    "a scanner without an end": {"make_scanner": lambda rules: lambda text, at: json.loads(text)},
    "a scanner that ends elsewhere": {"make_scanner": lambda rules: lambda text, at: (1, at)},
    "a scanner that reads something else": {"make_scanner": _scanner(lambda value: [value])},
    "a scanner that takes 1 for true": {
        "make_scanner": _scanner(
            lambda v: v | {"b": [1 if x is True else x for x in v["b"]]} if "b" in v else v
        )
    },
    "a scanner that asks no rules": {"make_scanner": lambda rules: _json.make_scanner(_Laxly())},
    "a scanner that raises the wrong fault": {
        "make_scanner": lambda rules: _raises(StopIteration(0))
    },
}


def _with(monkeypatch, changes):
    """The module as it is on a Python whose `_json` is another one."""
    fake = types.ModuleType("_json")
    fake.__dict__.update(_json.__dict__ | changes)
    monkeypatch.setitem(sys.modules, "_json", fake)
    spec = importlib.util.spec_from_file_location("canonical_otherwise", canonical.__file__)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _is_the_packages(module):
    return getattr(module._to_text, "__self__", None).__class__ is json.JSONEncoder


@pytest.mark.parametrize("how", OTHERWISE)
def test_where_the_c_functions_are_different_the_package_does_the_work(how, monkeypatch):
    other = _with(monkeypatch, OTHERWISE[how])
    assert _is_the_packages(other)
    for data in (b'{"a":[1,true,null],"b":"\\u00e9"}', NESTED_8):
        assert other.encode(other.decode(data)) == data
        assert other.encode(other.read(data)) == data
    for data, code in REFUSED.values():
        assert refused(other.decode, data) == code


def test_on_this_python_the_c_functions_do_the_work(monkeypatch, implementation):
    assert _is_the_packages(canonical) is (implementation == "package")
    assert not _is_the_packages(_with(monkeypatch, {}))


def test_a_process_that_has_not_imported_json_refuses_the_same():
    bad = [
        b"",
        b"{",
        b"[1,]",
        b'{"a" 1}',
        b'{"a":nope}',
        b'"a',
        b'"\\x"',
        b"1 2",
        b"NaN",
        b"-",
        b"{a}",
    ]
    code = (
        "import sys\n"
        "from coordledger.format import canonical as canonical\n"
        "from coordledger.errors import RuleBroken\n"
        "assert canonical.decode(b'[1]') == canonical.read(b'[1]') == [1]\n"
        "assert 'json' not in sys.modules and 'json.decoder' not in sys.modules\n"
        f"for text in {bad!r}:\n"  # on Python 3.12 and later the first one brings json in
        "    try: canonical.decode(text)\n"
        "    except RuleBroken as broken: assert broken.code == 'bad-json', (text, broken)\n"
        "    else: assert False, text\n"
        "    if text not in (b'NaN',):\n"
        "        try: canonical.read(text)\n"
        "        except ValueError: pass\n"
        "        else: assert False, text\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
