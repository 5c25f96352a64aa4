"""README and docs: links lead to files and headings that are there, commands to verbs that have these options."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "results").glob("*.md"))]


def headings(page: Path) -> set[str]:
    """As GitHub names them: lower case, no punctuation, dashes for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    lost = []
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        target = (page.parent / link).resolve() if link else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            lost.append(f"{link}#{anchor}")
    assert not lost


def commands(page: Path) -> list[str]:
    """``onedp`` commands in the page's blocks of code, lines joined, without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\\\n\s*", "", "\n".join(blocks)).splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines if line.startswith("onedp ")]


def test_commands_know_their_options():
    """A verb's --help names each option that a page gives it."""
    wanted: dict[str, set[str]] = {}
    for page in PAGES:
        for line in commands(page):
            verb = line.split()[1]
            if not verb.isupper():  # "onedp VERB --help"
                wanted.setdefault(verb, set()).update(re.findall(r"(?<= )--[a-z][a-z-]*", line))
    assert len(wanted) > 10
    unknown = []
    for verb, options in sorted(wanted.items()):
        command = [sys.executable, "-m", "onedp.cli.main", verb, "--help"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        unknown += [f"{verb} {option}" for option in sorted(options) if not re.search(rf"{option}(?![\w-])", said)]
    assert not unknown


@pytest.mark.slow
def test_the_table_of_all_rivals_is_what_the_results_say():
    made = runpy.run_path(str(ROOT / "scripts/rivals_table.py"))["table"]()
    assert (ROOT / "results/pusht-bench/all.md").read_text() == made, "python scripts/rivals_table.py makes it again"
