"""The pages: short, current, linked, and in the words of the field."""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parent.parent
_PAGES = sorted([_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", *(_ROOT / "docs").glob("*.md")])
_PRIVATE = r"\b(twins?|wish(es|ed)?|roof|guess(es)?|mend|surroundings|talks?|told|undone)\b"
"""Words of a private dialect, which readers would have to learn."""


def _read(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def _cli_page() -> Any:
    path = _ROOT / "scripts" / "make_cli_page.py"
    spec = importlib.util.spec_from_file_location("make_cli_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_at_most_1300_words() -> None:
    assert len(_read("README.md").split()) <= 1300


def test_the_readme_begins_with_a_picture() -> None:
    first, second = [line for line in _read("README.md").splitlines() if line][:2]
    assert first == "# diffir" and second.startswith("![")


def test_the_readme_has_the_two_commands_that_set_up_and_test() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", _read("README.md"), re.MULTILINE | re.DOTALL)
    venv = "python3 -m venv .venv && . .venv/bin/activate && pip install "
    run = "diffir restore tests/data/lighthouse.png --task sr -o lighthouse-x4.png"
    assert blocks == [f"{venv}. && {run}\n", f"{venv}-c constraints.txt -e '.[dev]' && pytest\n"]


def test_the_page_of_the_commands_is_what_the_commands_say() -> None:
    page = _cli_page().make_page()
    assert _read("docs/cli.md") == page, "run: python scripts/make_cli_page.py"


@pytest.mark.parametrize("page", _PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in [_anchor(title) for title in titles], target


def _anchor(title: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", _PAGES, ids=lambda path: path.name)
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    found = re.search(_PRIVATE, page.read_text("utf-8"), re.IGNORECASE)
    assert found is None, found


def test_extras_are_installed_under_the_name_of_the_distribution() -> None:
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    name, extras = project["name"], project["optional-dependencies"]
    sources = [*_PAGES, *(_ROOT / "diffir_cli").rglob("*.py")]
    for source in sources:
        for found, extra in re.findall(
            r"pip install '([\w-]+)\[(\w+)\]'", source.read_text("utf-8")
        ):
            assert found == name and extra in extras, source


@pytest.mark.xdist_group("pages")
def test_the_runner_of_tests_keeps_groups_together(request: pytest.FixtureRequest) -> None:
    # Not every version of pytest-xdist does so with every version of pytest.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("runs in one process")
    assert request.node.nodeid.endswith("@pages")


def _sources(name: str) -> list[str]:
    """Texts of the modules that a page may mean by a path, or by the end of one."""
    folders = ("diffir_cli", "scripts", "tests")
    modules = [path for folder in folders for path in (_ROOT / folder).rglob("*.py")]
    found = [path for path in modules if f"/{path.as_posix()}".endswith(f"/{name}")]
    return [path.read_text(encoding="utf-8") for path in found]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_modules_and_names_of_the_code_in_pages_exist(page: Path) -> None:
    for name, own in re.findall(r"([\w/]+\.py)\b(?::`([\w.]+)`)?", page.read_text("utf-8")):
        sources = _sources(name)
        assert sources, name
        assert any(own.rpartition(".")[2] in source for source in sources), f"{name}:{own}"
