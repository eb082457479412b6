# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""Renders a timeline document (see C(Recorder.document)) as one page without scripts and without anything to load."""

from __future__ import annotations

import html
import typing as t

from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline import STATUSES, slowest_tasks, task_label

__all__ = ["axis_step", "render_html"]

_SLOWEST_SHOWN = 15
_PIXELS_PER_TASK = 7
# Shorter bars have no room for a name.
_NAMED_SHARE = 0.04

_STYLE = """
:root { color-scheme: light dark; --bg: #ffffff; --fg: #1c2128; --soft: #57606a; --line: #d0d7de; --lane: #f3f5f7; --tip: #1c2128; --tipfg: #ffffff;
  --ok: #2da44e; --changed: #d4900b; --skipped: #afb8c1; --ignored: #8250df; --failed: #d1242f;
  --unreachable: #9a1623; --unfinished: #0969da; --bar: #0969da; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161c; --fg: #e6edf3; --soft: #9aa4af; --line: #30363d; --lane: #1b2129; --tip: #e6edf3; --tipfg: #12161c;
  --ok: #3fb950; --changed: #e3b341; --skipped: #545d68; --ignored: #a371f7; --failed: #f85149;
  --unreachable: #da3633; --unfinished: #58a6ff; --bar: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 1.5rem; background: var(--bg); color: var(--fg); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0; }
.soft { color: var(--soft); }
.badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; border: 1px solid currentColor;
  font-size: .85rem; font-weight: 600; vertical-align: middle; }
.badge.ok { color: var(--ok); } .badge.failed, .badge.interrupted { color: var(--failed); } .badge.check, .badge.running { color: var(--unfinished); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
.n { text-align: right; white-space: nowrap; }
.share { width: 30%; }
.share div { height: .8rem; margin-top: .3rem; min-width: 1px; background: var(--bar); border-radius: 2px; }
.chart { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
.row { display: flex; align-items: center; margin: 3px 0; }
.host { flex: 0 0 11rem; position: sticky; left: -.5rem; z-index: 2; padding: 0 .6rem; background: var(--bg);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.track { position: relative; flex: 1 0 auto; height: 1.6rem; background: var(--lane); }
.axis .track { height: 1.1rem; background: none; color: var(--soft); font-size: .75rem; }
.axis span { position: absolute; border-left: 1px solid var(--line); padding-left: 3px; white-space: nowrap; }
.bar { position: absolute; top: 0; bottom: 0; min-width: 2px; border-right: 1px solid var(--bg); }
.bar:hover { outline: 2px solid var(--fg); z-index: 3; }
.name { position: absolute; inset: 0; padding: 0 .3rem; overflow: hidden; white-space: nowrap; font-size: .75rem; line-height: 1.6rem; color: #0b0f14; }
.failed .name, .unreachable .name, .ignored .name, .unfinished .name { color: #ffffff; }
.tip { display: none; position: fixed; left: 1rem; bottom: 1rem; z-index: 4; max-width: calc(100vw - 2rem); padding: .5rem .8rem; border-radius: 6px;
  background: var(--tip); color: var(--tipfg); white-space: pre-line; pointer-events: none; }
.bar:hover .tip { display: block; }
.ok { --c: var(--ok); } .changed { --c: var(--changed); } .skipped { --c: var(--skipped); } .ignored { --c: var(--ignored); }
.failed { --c: var(--failed); } .unreachable { --c: var(--unreachable); } .unfinished { --c: var(--unfinished); }
.bar, .key i { background: var(--c); }
.changed.bar, .key .changed { background: repeating-linear-gradient(45deg, var(--c) 0 6px, color-mix(in srgb, var(--c) 65%, var(--bg)) 6px 9px); }
.failed.bar, .unreachable.bar, .key .failed, .key .unreachable { background: repeating-linear-gradient(-45deg, var(--c) 0 4px, var(--fg) 4px 6px); }
.skipped.bar { top: 35%; bottom: 35%; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; padding: 0; list-style: none; }
.key i { display: inline-block; width: 1rem; height: .8rem; margin-right: .4rem; }
.skipped .name { display: none; }
td.failed, td.unreachable, td.changed, td.ignored { color: var(--c); font-weight: 600; }
summary { cursor: pointer; margin: .6rem 0; }
@media print { .chart { overflow: visible; } }
"""


def axis_step(seconds: float, ticks: int = 8) -> float:
    """Distance between ticks, from 1, 2 and 5 times powers of ten below a minute and round numbers of minutes above."""
    if seconds <= 0:
        return 1.0
    wanted = seconds / ticks
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600):
        if step >= wanted:
            return float(step)
    return 3600.0 * -(-wanted // 3600)


def _text(value: t.Any) -> str:
    return html.escape("".join(char if char.isprintable() else " " for char in str(value)), quote=True)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _percent(part: float, whole: float) -> str:
    return f"{max(0.0, min(100.0, part / whole * 100 if whole > 0 else 0.0)):.3f}%"


def _failures(counts: dict[str, int]) -> int:
    return counts["failed"] + counts["unreachable"]


def _facts(result: dict[str, t.Any]) -> list[str]:
    facts = []
    if result["attempts"] > 1:
        facts.append(f"{result['attempts']} attempts")
    if result["items"] is not None:
        facts.append(f"{result['items']} items")
    if result["delegated_to"]:
        facts.append(f"on {result['delegated_to']}")
    return facts


def render_html(document: dict[str, t.Any]) -> str:
    """The page as text."""
    title = f"Timeline of {document['playbook']}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        *_header(document, title),
        "<main>",
        *_overview(document),
        *_slowest(document),
        *_legend(),
    ]
    for number, phase in enumerate(document["phases"], start=1):
        parts += _phase(phase, number)
    parts += ["</main>", "</body>", "</html>"]
    return "\n".join(parts) + "\n"


def _header(document: dict[str, t.Any], title: str) -> list[str]:
    check = ' <span class="badge check">check mode: nothing was changed</span>' if document["check"] else ""
    counts = ", ".join(f"{count} {status}" for status, count in document["counts"].items() if count)
    hosts = len(document["hosts"])
    return [
        "<header>",
        f'<h1>{_text(title)} <span class="badge {_text(document["outcome"])}">{_text(document["outcome"])}</span>{check}</h1>',
        f"<p>{_clock(document['seconds'])} on {hosts} host{'' if hosts == 1 else 's'}, started {_text(document['started_at'])}.</p>",
        f'<p class="soft">Results: {_text(counts or "none")}.</p>',
        "</header>",
    ]


def _overview(document: dict[str, t.Any]) -> list[str]:
    lines = [
        '<section aria-labelledby="overview">',
        '<h2 id="overview">Phases</h2>',
        "<table>",
        '<thead><tr><th scope="col">Phase</th><th scope="col" class="n">Seconds</th><th scope="col">Share</th><th scope="col" class="n">Tasks</th>'
        '<th scope="col" class="n">Changed</th><th scope="col" class="n">Failed</th></tr></thead>',
        "<tbody>",
    ]
    for number, phase in enumerate(document["phases"], start=1):
        share = _percent(phase["seconds"], document["seconds"])
        failed = _failures(phase["counts"])
        lines.append(
            f'<tr><td><a href="#phase-{number}">{_text(phase["name"])}</a></td><td class="n">{phase["seconds"]:.1f}</td>'
            f'<td class="share" title="{share}"><div style="width:{share}"></div></td><td class="n">{len(phase["tasks"])}</td>'
            f'<td class="n">{phase["counts"]["changed"]}</td><td class="n{" failed" if failed else ""}">{failed}</td></tr>'
        )
    return [*lines, "</tbody>", "</table>", "</section>"]


def _slowest(document: dict[str, t.Any]) -> list[str]:
    entries = slowest_tasks(document, _SLOWEST_SHOWN)
    if not entries:
        return []
    lines = [
        '<section aria-labelledby="slowest">',
        '<h2 id="slowest">Slowest tasks</h2>',
        "<table>",
        '<thead><tr><th scope="col" class="n">Seconds</th><th scope="col">Task</th><th scope="col">Phase</th><th scope="col">Slowest host</th></tr></thead>',
        "<tbody>",
    ]
    for entry in entries:
        lines.append(
            f'<tr><td class="n">{entry["seconds"]:.2f}</td><td>{_text(entry["task"])}</td><td>{_text(entry["phase"])}</td><td>{_text(entry["host"])}</td></tr>'
        )
    return [*lines, "</tbody>", "</table>", "</section>"]


def _legend() -> list[str]:
    return ['<ul class="key" aria-label="Colours">', *(f'<li><i class="{status}"></i>{status}</li>' for status in STATUSES), "</ul>"]


def _phase(phase: dict[str, t.Any], number: int) -> list[str]:
    batches = f", {phase['batches']} batches" if phase["batches"] > 1 else ""
    lines = [
        f'<section aria-labelledby="phase-{number}">',
        f'<h2 id="phase-{number}">{_text(phase["name"])}</h2>',
        f'<p class="soft">{_clock(phase["seconds"])}, from {_clock(phase["start"])} after the start{batches}</p>',
    ]
    if phase["hosts"]:
        lines += _chart(phase)
        lines += _task_table(phase)
    else:
        lines.append("<p>No host ran a task in this phase.</p>")
    return [*lines, "</section>"]


def _chart(phase: dict[str, t.Any]) -> list[str]:
    # The table below holds the same facts for those who cannot see or hover over the chart.
    whole = phase["seconds"]
    width = len(phase["tasks"]) * _PIXELS_PER_TASK
    track = f'<div class="track" style="min-width:max({width}px, 20rem)">'
    step = axis_step(whole)
    ticks = []
    position = 0.0
    while position < whole:
        ticks.append(f'<span style="left:{_percent(position, whole)}">{_clock(position)}</span>')
        position = round(position + step, 3)
    lines = ['<div class="chart" aria-hidden="true">', f'<div class="row axis"><div class="host"></div>{track}{"".join(ticks)}</div></div>']
    for host in phase["hosts"]:
        bars = []
        for task in phase["tasks"]:
            for result in task["results"]:
                if result["host"] == host:
                    bars.append(_bar(task, result, phase["start"], whole))
        lines.append(f'<div class="row"><div class="host" title="{_text(host)}">{_text(host)}</div>{track}{"".join(bars)}</div></div>')
    return [*lines, "</div>"]


def _bar(task: dict[str, t.Any], result: dict[str, t.Any], phase_start: float, whole: float) -> str:
    offset = result["start"] - phase_start
    tip = [task_label(task), f"{result['host']}: {result['status']} in {_clock(result['seconds'])}", *_facts(result)]
    if task["block"]:
        tip.insert(1, task["block"])
    share = result["seconds"] / whole if whole > 0 else 0.0
    name = f'<span class="name">{_text(task["name"])}</span>' if share >= _NAMED_SHARE else ""
    return (
        f'<div class="bar {_text(result["status"])}" style="left:{_percent(offset, whole)};width:{_percent(result["seconds"], whole)}">'
        f'{name}<span class="tip">{"&#10;".join(_text(line) for line in tip)}</span></div>'
    )


def _task_table(phase: dict[str, t.Any]) -> list[str]:
    results = sum(len(task["results"]) for task in phase["tasks"])
    lines = [
        f"<details><summary>{results} result{'' if results == 1 else 's'} of this phase as a table</summary>",
        "<table>",
        '<thead><tr><th scope="col" class="n">Start</th><th scope="col" class="n">Seconds</th><th scope="col">Task</th><th scope="col">Host</th>'
        '<th scope="col">Status</th><th scope="col">Details</th></tr></thead>',
        "<tbody>",
    ]
    for task in phase["tasks"]:
        for result in task["results"]:
            facts = [*([task["kind"]] if task["kind"] != "task" else []), *_facts(result)]
            lines.append(
                f'<tr><td class="n">{result["start"]:.2f}</td><td class="n">{result["seconds"]:.2f}</td><td>{_text(task_label(task))}</td>'
                f'<td>{_text(result["host"])}</td><td class="{_text(result["status"])}">{_text(result["status"])}</td><td>{_text(", ".join(facts))}</td></tr>'
            )
    return [*lines, "</tbody>", "</table>", "</details>"]
