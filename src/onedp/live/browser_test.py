"""The page in a real browser: it draws, the mouse drags the T, the controls work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from onedp.live.headless_test import headless_page
from onedp.live.server_test import TOKEN, next_of, page, serving

CARDS = "document.querySelectorAll('article').length === 2"
COLOURS = """(() => {
  const canvas = document.querySelectorAll('.scene')[%d];
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
  return seen.size;
})()"""
BOX = """(() => {
  const box = document.querySelectorAll('.scene')[%d].getBoundingClientRect();
  return [box.left, box.top, box.width];
})()"""

CHOOSE = """(() => {
  const select = document.querySelectorAll('article')[%d].querySelector('select[name=%s]');
  select.value = '%s';
  select.dispatchEvent(new Event('change'));
})()"""
EXECUTORS = "[...document.querySelectorAll('select[name=executor]')[%d].options].map((option) => option.value)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_mouse_drags_the_t_in_a_browser(tmp_path: Path, width: int) -> None:
    with serving() as port, page(port) as watcher, headless_page(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{port}/", width, 1600)
        browser.wait_for(CARDS)
        browser.evaluate("document.getElementById('pause').click()")
        state = next_of(watcher, "state", lambda state: state["paused"])
        browser.wait_for("document.getElementById('pause').textContent === 'Go on'")
        assert browser.wait_for(f"{COLOURS % 0} > 20")
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out

        browser.evaluate("document.getElementById('pause').click()")
        state = next_of(watcher, "state", lambda state: not state["paused"] and state["lanes"][0]["tick"] > 0)
        left, top, size = browser.evaluate(BOX % 0)
        at = [left + size * state["lanes"][0]["block"][0] / 512, top + size * state["lanes"][0]["block"][1] / 512]
        to = [left + size * 0.25, top + size * 0.25]
        browser.mouse("mouseMoved", *at)
        browser.mouse("mousePressed", *at, button="left", clickCount=1)
        for i in range(1, 11):
            browser.mouse("mouseMoved", *[a + (b - a) * i / 10 for a, b in zip(at, to, strict=True)], button="left")
        held = next_of(watcher, "state", lambda state: state["lanes"][0]["held"] and state["lanes"][1]["held"])
        browser.wait_for(
            "[...document.querySelectorAll('[data-show=status]')].every(e => e.textContent === 'in your hand')"
        )
        moved = next_of(watcher, "state", lambda state: is_moved(held, state))
        browser.mouse("mouseReleased", *to, button="left", clickCount=1)
        next_of(watcher, "state", lambda state: not state["lanes"][0]["held"])
        assert moved["lanes"][0]["block"] != held["lanes"][0]["block"]

        lane = choose(browser, watcher, 0, "latency", "0.669")
        browser.wait_for("document.querySelector('[data-show=delay]').textContent === '680 ms'")  # 34 ticks of 20 ms
        assert lane["executor"] == "sync"
        assert choose(browser, watcher, 0, "executor", "drop-late")["latency"] == "0.669"  # the others stay
        other = choose(browser, watcher, 1, "sampler", "ten")
        assert (other["nfe"], other["executor"], other["latency"]) == (10, "sync", "0")
        assert ["rtc" in browser.evaluate(EXECUTORS % lane) for lane in (0, 1)] == [True, False]  # it could not
        browser.evaluate("document.getElementById('next').click()")
        next_of(watcher, "state", lambda state: state["seed"] == 4)
        if folder := os.environ.get("ONEDP_SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"live-{width}.png", whole=True)
        assert browser.problems == []


@pytest.mark.slow
def test_a_page_without_the_token_is_told_where_to_find_it(tmp_path: Path) -> None:
    with serving(token=TOKEN) as port, headless_page(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{port}/", 1200, 800)
        shown = "document.querySelector('#problem:not([hidden])')?.textContent"
        browser.wait_for(f"{shown} === 'Open the address that onedp live printed.'")
        assert browser.evaluate("document.getElementById('connection').textContent") == "not connected"
        browser.evaluate(f"location.hash = '#{TOKEN}'")
        browser.wait_for(CARDS)
        browser.wait_for(f"{shown} === undefined")


def choose(browser: Any, watcher: ClientConnection, lane: int, control: str, value: str) -> dict[str, Any]:
    """Operate one of the selects of a lane; what the server says about the lane once it has followed."""
    browser.evaluate(CHOOSE % (lane, control, value))
    return next_of(watcher, "state", lambda state: state["lanes"][lane][control] == value)["lanes"][lane]


def is_moved(before: dict, after: dict) -> bool:
    """Both lanes' T is near the place that the mouse dragged it to, and it was not there before."""
    near = [abs(lane["block"][0] - 128) < 60 and abs(lane["block"][1] - 128) < 60 for lane in after["lanes"]]
    return all(near) and json.dumps(before) != json.dumps(after)
