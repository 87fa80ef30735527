"""The page of figures: picture, tables and sentences are what one run has measured."""

from __future__ import annotations

import copy
import importlib.util
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SVG = "{http://www.w3.org/2000/svg}"


def _loaded(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = _loaded(ROOT / "docs" / "pictures" / "figures.py")
RUN = json.loads(figures.RUN.read_text("utf-8"))
AGAIN = "python docs/pictures/make.py --figures"


def test_the_picture_is_that_of_the_run_that_is_kept() -> None:
    assert figures.PICTURE.read_text("utf-8") == figures.svg(figures.Figures(RUN)), AGAIN


@pytest.mark.parametrize("name", figures.PAGES)
def test_the_tables_of_a_page_are_those_of_the_run_that_is_kept(name: str) -> None:
    page = (ROOT / name).read_text("utf-8")
    assert figures.put(page, figures.PAGES[name](figures.Figures(RUN))) == page, AGAIN


def test_each_way_that_the_benchmark_measures_has_a_row() -> None:
    assert {row["what"] for row in RUN["suites"]["compare"]["rows"]} == set(figures.WAYS)


def test_another_run_makes_another_picture_and_other_pages() -> None:
    other = copy.deepcopy(RUN)
    for row in other["suites"]["compare"]["rows"]:
        if row["what"] == figures.compare.HERE:
            row["alone_ms"] *= 3
            row["slowest_to_fastest"] = 9.9
    before, after = figures.Figures(RUN), figures.Figures(other)
    assert figures.svg(before) != figures.svg(after)
    for block in figures.PAGES.values():
        assert block(before) != block(after)
    assert "| ≤ 1.3 | **9.9**: not reached |" in figures.long(after)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="figures"):
        figures.put("no marks", "table")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0221, "0.022"),
        (0.25, "0.25"),
        (1.64, "1.6"),
        (9.96, "10.0"),
        (36.4, "36"),
        (5284.9, "5,285"),
    ],
)
def test_figures_have_two_digits_at_least(value: float, shown: str) -> None:
    assert figures.number(value) == shown


def test_the_picture_loads_nothing_and_all_dots_are_on_its_axes() -> None:
    text = figures.PICTURE.read_text("utf-8")
    assert not [word for word in ("href", "url(", "@import", "<script") if word in text]
    dots = [float(dot.get("cx", "")) for dot in ET.fromstring(text).iter(f"{SVG}circle")]
    panels = (figures.LEFT, figures.RIGHT)
    assert len(dots) == 2 * len(figures.WAYS)
    assert all(any(first <= x <= last for first, last in panels) for x in dots)
    assert "prefers-color-scheme: dark" in text
