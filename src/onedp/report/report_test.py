from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.evaluate.comparison import Comparison
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.report import RecordedEpisode, choose_starts, make_clip, write_report


class Page(HTMLParser):
    """Collects what the tests ask about and checks that elements close in order."""

    VOID = ("meta", "img", "source", "br", "path", "use", "circle", "rect")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison()


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory) -> Page:
    frames = [np.full((48, 48, 3), 10 * step, dtype=np.uint8) for step in range(8)]
    episodes = [RecordedEpisode(name, 1, frames, [0.5] * 8, True) for name in ("teacher", "student")]
    starts = choose_starts(comparison.result(STUDENT), comparison.result(REFERENCE), "onedp-s one-step")
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        comparison,
        videos=[make_clip(start, episodes) for start in starts],
        training_curves={"Tracker loss": {"tracker": ([0, 10, 20], [3.0, 2.0, 1.0])}},
        diagnostics={"Gap": {"low noise": ([0, 10], [0.1, 0.2]), "high noise": ([0, 10], [0.1, 0.3])}},
        provenance={"teacher": {"training steps": 10_000}, "cost": "5.5 %"},
        title="One step & ten",
        control_period_ms=100.0,
    )
    assert path.stat().st_size < 10e6
    return Page(path.read_text())


def test_page_is_well_formed_and_needs_no_network(page):
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_everything_to_look_at_has_words(page):
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "video":
            assert attributes["aria-label"].startswith("Roll-outs side by side on seed 1000")
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    assert sum(tag == "video" for tag, _ in page.tags) == 3


def test_ids_are_unique_and_internal_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [a[name][1:] for _, a in page.tags for name in ("href", "xlink:href") if a.get(name)]
    assert set(references) <= set(ids)


def test_page_says_what_was_compared_and_how(page, comparison):
    student = comparison.result(STUDENT)
    for words in (
        "One step & ten",
        "seeds 100000 to 100049",
        "BCa bootstrap",
        "Wilson",
        "AMD EPYC 7B13",
        student.command,
        student.weights_digest,
        "0.1.0",
        f"{student.score_mean:.3f}",
        "What this does not show",
        "a real robot",
        "The first start",
        "teacher, training steps",
        "5.5 %",
        "declared by the sampler, and counted by a hook",
        "Starts are picked by rule",
    ):
        assert words in page.text, words


@pytest.mark.parametrize(("skill", "badge"), [(0.74, "Kept"), (0.45, "Success lost")])
def test_badge_is_honest(tmp_path, skill, badge):
    reference = fake_evaluation(episodes=400, skill=0.74)
    student = fake_evaluation("student", "one-step", nfe=1, skill=skill, floor=0.95, episodes=400, digest="x")
    path = tmp_path / "report.html"
    write_report(path, Comparison.build([reference, student], REFERENCE))
    assert f'">{badge}</span>' in path.read_text()


def test_names_cannot_inject_markup(tmp_path):
    student = fake_evaluation("<script>alert(1)</script>", "one-step", nfe=1, digest='"><em>', command="<i>run</i>")
    path = tmp_path / "report.html"
    write_report(
        path, Comparison.build([fake_evaluation(), student], REFERENCE), title="<h1>", provenance={"<u>": "<s>"}
    )
    text = path.read_text()
    assert not re.search(r"<script|<i>run|<em>|<u>|<s>|<title><h1>", text)
    Page(text)


def test_a_reference_alone_and_a_subset_of_starts_are_reported(tmp_path):
    write_report(tmp_path / "alone.html", Comparison.build([fake_evaluation()], REFERENCE))
    assert "nothing to compare it with" in (tmp_path / "alone.html").read_text()
    few = fake_evaluation(sampler="ddpm:100", nfe=100, episodes=20)
    write_report(tmp_path / "few.html", Comparison.build([fake_evaluation(), few], REFERENCE, common_only=True))
    assert "different numbers of starts" in (tmp_path / "few.html").read_text()


def test_the_same_comparison_gives_the_same_file(comparison, tmp_path):
    for name in ("a", "b"):
        write_report(tmp_path / name, comparison)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_report_that_cannot_be_written_leaves_nothing(comparison, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OneDPError, match="taken could not be written"):
        write_report(tmp_path / "taken", comparison)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
