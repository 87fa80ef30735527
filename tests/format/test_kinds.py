"""Each kind of record is in all the places where a kind has to be.

Rules: the page is read as it is printed, and the vectors as they lie there, so that a kind
that is missing in one of them is missing here.
"""

import json
import re
from pathlib import Path

import pytest
from support import strategies

from coordledger import format as format_package
from coordledger.format import records, rules
from coordledger.format.rules.ledger import POLICY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text()
VECTORS = ROOT / "tests" / "vectors"
PACKAGE = Path(format_package.__file__).parent
MODULES = {path.stem for path in (PACKAGE / "rules").glob("*.py")} - {"__init__", "kind"}


def section(number):
    return re.search(rf"^## {number}\. .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[0]


def rows(text):
    """The cells of each line of a section that belongs to a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell):
    return re.findall(r"`([a-z_]+)`", cell)


def fields_on_the_page():
    """kind -> its fields, in order, as section 4 lists them."""
    found = {}
    kind = ""
    for first, field, *_ in (row for row in rows(section(4)) if len(row) == 3):
        kind = names(first)[0] if names(first) else kind
        found.setdefault(kind, []).extend(names(field))
    return found


class TestOnThePage:
    def test_the_common_fields_are_those_of_the_page(self):
        listed = [name for row in rows(section(4)) if len(row) == 2 for name in names(row[0])]
        assert listed == list(records.COMMON)

    @pytest.mark.parametrize("kind", rules.MODULES)
    def test_a_kind_has_the_fields_that_the_page_lists(self, kind):
        fields = [name for name in rules.kind_of(kind).fields if name not in records.COMMON]
        assert fields_on_the_page().get(kind) == fields

    def test_the_page_lists_no_other_kind(self):
        assert fields_on_the_page().keys() - {""} == rules.MODULES.keys()

    def test_each_kind_has_a_subject(self):
        assert {names(row[0])[0] for row in rows(section(6))[2:]} == rules.MODULES.keys()

    def test_each_kind_has_a_rule_and_an_effect(self):
        said = set(re.findall(r"^\*\*([a-z]+)\*\*", section(9), re.MULTILINE))
        assert rules.MODULES.keys() <= said

    def test_each_kind_has_its_module(self):
        said = {
            kind: row[1].strip("`").removeprefix("rules/")
            for row in rows(section(13))
            for kind in names(row[0])
        }
        assert said == rules.MODULES

    def test_each_module_that_is_named_is_there(self):
        paths = re.findall(r"`((?:coordledger/)?[a-z]+(?:/[a-z]+)*)`", section(13))
        modules = set(paths) - rules.MODULES.keys()
        assert {"canonical", "rules/tasks", "coordledger/server/admission"} <= modules
        for path in modules:
            home = ROOT if path.startswith("coordledger/") else PACKAGE
            assert (home / f"{path}.py").is_file(), path

    def test_the_policys_keys_defaults_and_bounds_are_those_of_the_page(self):
        listed = {
            names(row[0])[0]: tuple(int(cell.replace(",", "")) for cell in row[2:])
            for row in rows(section(7))[2:]
        }
        assert listed == POLICY
        assert list(listed) == list(POLICY)


class TestInTheRegistry:
    def test_a_module_has_the_kinds_that_are_listed_for_it_and_no_other(self):
        for module in MODULES:
            loaded = __import__(f"coordledger.format.rules.{module}", fromlist=["KINDS"])
            listed = {kind for kind, home in rules.MODULES.items() if home == module}
            assert loaded.KINDS.keys() == listed

    def test_each_module_is_listed(self):
        assert set(rules.MODULES.values()) == MODULES

    def test_a_kind_that_is_not_listed_is_none(self):
        with pytest.raises(KeyError):
            rules.kind_of("upgrade")

    def test_all_can_be_loaded_at_once(self):
        rules.load_all()
        assert all(rules.kind_of(kind) for kind in rules.MODULES)

    def test_only_the_genesis_record_says_something_else_about_common_fields(self):
        replaced = {
            (kind, field)
            for kind in rules.MODULES
            for field in rules.kind_of(kind).fields.keys() & records.COMMON.keys()
        }
        assert replaced == {("genesis", "base"), ("genesis", "agent")}


class TestInTheTests:
    @pytest.mark.parametrize("kind", rules.MODULES)
    def test_there_is_a_strategy_for_each_field(self, kind):
        fields = rules.kind_of(kind).fields.keys() - records.COMMON.keys()
        assert strategies.FIELDS[kind].keys() == fields

    def test_there_is_a_valid_vector_of_each_kind(self):
        chain = json.loads((VECTORS / "valid" / "chain.json").read_text())
        kinds = {json.loads(row["payload"])["kind"] for row in chain["records"]}
        assert kinds == rules.MODULES.keys()

    @pytest.mark.parametrize("kind", rules.MODULES)
    def test_there_are_malformed_vectors_with_a_field_too_few_and_one_too_many(self, kind):
        folder = VECTORS / "malformed"
        too_few = list(folder.glob(f"{kind}-misses-*.json"))
        assert too_few
        for path in [*too_few, folder / f"{kind}-says-more.json"]:
            assert json.loads(path.read_text())["code"] == "bad-record"
