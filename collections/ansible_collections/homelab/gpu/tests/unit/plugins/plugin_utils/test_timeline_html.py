# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline import STATUSES, Recorder, TaskInfo
from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline_html import axis_step, render_html

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING_ATTRIBUTES = {"src", "srcset", "data", "action", "formaction", "background", "poster", "ping", "manifest"}
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;"


class Page(HTMLParser):
    """Checks that tags are balanced and collects what the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def document(*, name: str = "Copy", host: str = "a", status: str = "changed", outcome: str = "ok", check: bool = False) -> dict:
    recorder = Recorder(f"{name}.yml", "2026-11-22T10:00:00Z", 0.0, check=check)
    recorder.start_phase("p1", name, 0.0)
    recorder.start_task("t1", TaskInfo(name=name, action=name, role=name, block=name, kind="handler"), 0.0)
    recorder.start_result("t1", host, 0.0)
    recorder.finish_result("t1", host, status, 30.0, attempts=3, items=4, delegated_to=host)
    recorder.start_result("t1", f"{host}2", 25.0)
    recorder.finish_result("t1", f"{host}2", "ok", 30.0)
    recorder.start_phase("p2", f"Empty {name}", 40.0)
    recorder.finish(outcome, 60.0)
    return recorder.document(60.0)


def test_page_is_well_formed_and_has_its_parts():
    page = Page(render_html(document()))
    texts = " ".join(page.texts)
    for expected in ("Timeline of Copy.yml", "1 min 00 s on 2 hosts", "Slowest tasks", "No host ran a task in this phase.", "3 attempts", "4 items", "on a"):
        assert expected in texts
    assert ("html", {"lang": "en"}) in page.tags


def test_nothing_is_loaded_and_nothing_runs():
    text = render_html(document(name=EVIL, host=EVIL))
    page = Page(text)
    names = {tag for tag, _attributes in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "svg"}
    for tag, attributes in page.tags:
        assert not LOADING_ATTRIBUTES & set(attributes), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert attributes.get("href", "#").startswith("#")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policies = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_every_name_is_escaped_and_readable():
    plain = render_html(document(name="N", host="h"))
    evil = render_html(document(name=EVIL, host=EVIL))
    assert [tag for tag, _attributes in Page(evil).tags] == [tag for tag, _attributes in Page(plain).tags]
    assert EVIL in " ".join(Page(evil).texts)


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_has_a_colour_in_both_schemes_and_an_entry_in_the_legend(status):
    text = render_html(document(status=status))
    light, dark = text.split("prefers-color-scheme: dark")
    assert f"--{status}: #" in light
    assert f"--{status}: #" in dark[: dark.index("</style>")]
    assert f'<li><i class="{status}"></i>{status}</li>' in text
    assert re.search(rf'<div class="bar {status}', text)


def test_bars_lie_where_their_times_say():
    text = render_html(document())
    assert 'class="bar changed" style="left:0.000%;width:75.000%"' in text
    assert 'class="bar ok" style="left:62.500%;width:12.500%"' in text


def test_only_bars_with_room_for_it_bear_their_name():
    recorder = Recorder("site.yml", "2026-11-22T10:00:00Z", 0.0)
    recorder.start_phase("p1", "P", 0.0)
    for key, start, end in (("long", 0.0, 50.0), ("short", 50.0, 51.0)):
        recorder.start_task(key, TaskInfo(name=f"The {key} one", action="x"), start)
        recorder.start_result(key, "a", start)
        recorder.finish_result(key, "a", "ok", end)
    recorder.finish("ok", 100.0)
    text = render_html(recorder.document(100.0))
    assert '<span class="name">The long one</span>' in text
    assert '<span class="name">The short one</span>' not in text


def test_what_the_chart_shows_is_in_a_table_too():
    text = render_html(document())
    chart = text[text.index('<div class="chart"') : text.index("<details>")]
    assert chart.startswith('<div class="chart" aria-hidden="true">')
    table = text[text.index("<details>") :]
    assert "2 results of this phase as a table" in table
    assert 'scope="col"' in table
    for cell in ("<td>a</td>", "<td>a2</td>", '<td class="changed">changed</td>', "handler, 3 attempts, 4 items, on a"):
        assert cell in table


@pytest.mark.parametrize(
    ("outcome", "check", "expected", "unexpected"),
    [("ok", False, '<span class="badge ok">ok</span>', "check mode"), ("interrupted", True, "check mode: nothing was changed", ">ok</span>")],
)
def test_outcome_and_check_mode_are_marked(outcome, check, expected, unexpected):
    header = render_html(document(outcome=outcome, check=check)).partition("</header>")[0].partition("<header>")[2]
    assert expected in header
    assert unexpected not in header
    assert f">{outcome}</span>" in header


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 1.0), (0.5, 0.1), (8, 1.0), (9, 2.0), (100, 20.0), (170, 30.0), (3000, 600.0), (8 * 3600, 3600.0), (80 * 3600, 36000.0)]
)
def test_axis_step_is_a_round_number(seconds, expected):
    assert axis_step(seconds) == expected
