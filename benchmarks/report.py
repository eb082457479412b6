# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns results into the sections of docs/performance.md. Ratios within one run are the figures; seconds are shown beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.measured_lab import median

UNKNOWN_REASON: Final = "not looked into"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in cells)])


def ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def judged(holds: bool, promise: str) -> str:
    return f"{'kept' if holds else '**missed**'}: {promise}"


def reason_for(task: Mapping[str, Any], run: str, reasons: Sequence[Mapping[str, str]]) -> str:
    for entry in reasons:
        if entry.get("run", run) == run and re.search(entry["task"], task["name"]) and re.search(entry.get("phase", ""), task["phase"]):
            return entry["reason"]
    return UNKNOWN_REASON


def slowest(tasks: Sequence[Mapping[str, Any]], run: str, whole: float, reasons: Sequence[Mapping[str, str]]) -> str:
    rows = [
        (
            task["phase"],
            task["name"].removeprefix("homelab.gpu."),
            f"{task['seconds']:.1f}",
            f"{100 * task['seconds'] / whole:.0f} %",
            reason_for(task, run, reasons),
        )
        for task in tasks
    ]
    return table(["phase", "task", "s", "share", "reason"], rows)


def site_runs(result: Mapping[str, Any], reasons: Sequence[Mapping[str, str]]) -> str:
    """Promises in time are judged by the median of the rounds, all others by every round."""
    rounds = result["rounds"]
    hosts, units = rounds[0]["hosts"], rounds[0]["units"]
    share = median([entry["second_seconds"] / entry["first_seconds"] for entry in rounds])
    ready = median([entry["up_seconds"] + entry["first_seconds"] for entry in rounds])
    changed = [entry["second_changed"] for entry in rounds]
    restarted = sorted({unit for entry in rounds for unit in entry["units_restarted"]})
    promises = [
        judged(share <= 1 / 3, f"the second run takes at most 1/3 of the first: {share:.2f} (median)"),
        judged(not any(changed), f"the second run changes nothing: {max(changed)} changed"),
        judged(not restarted, f"no unit is restarted: start time and process of {units} units equal" if not restarted else f"restarted: {restarted}"),
        judged(ready <= 90, f"{hosts} hosts from nothing to all Ready in at most 90 s: {ready:.0f} s (median)"),
    ]
    runs = [
        (
            number,
            *(f"{entry[key]:.1f}" for key in ("up_seconds", "first_seconds", "second_seconds")),
            ratio(entry["second_seconds"], entry["first_seconds"]),
            f"{entry['load_between']:.1f}",
        )
        for number, entry in enumerate(rounds, start=1)
    ]
    typical = sorted(rounds, key=lambda entry: entry["second_seconds"] / entry["first_seconds"])[len(rounds) // 2]
    return "\n\n".join(
        [
            "\n".join(f"- {promise}" for promise in promises),
            table(["round", "`lab/up.yml`, s", "first `site.yml`, s", "second, s", "second/first", "load between"], runs),
            "The ten slowest tasks of the first run, in the round with the median ratio:",
            slowest(typical["first_slowest"], "first", typical["first_seconds"], reasons),
            "Of the second run in that round:",
            slowest(typical["second_slowest"], "second", typical["second_seconds"], reasons),
        ]
    )


def join_scale(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    cost: dict[int, list[float]] = {}
    again: dict[int, list[float]] = {}
    for join in (join for joins in result["rounds"] for join in joins):
        cost.setdefault(join["agent"], []).append(join["adding_seconds"])
        again.setdefault(join["agent"], []).append(join["whole_again_seconds"])
    share = median(cost[5]) / median(cost[2])
    rows = [
        (
            f"{agent}.",
            ", ".join(f"{seconds:.1f}" for seconds in cost[agent]),
            f"{median(cost[agent]):.1f}",
            ratio(median(cost[agent]), median(cost[2])),
            f"{median(again[agent]):.1f}",
        )
        for agent in cost
    ]
    head = [
        "agent",
        "`site.yml --limit` that adds it, s, each round",
        "median",
        "of the second's",
        "`site.yml` over all hosts afterwards, 0 changed, s, median",
    ]
    return "\n\n".join(
        ["- " + judged(0.75 <= share <= 1.25, f"adding the fifth agent costs what the second did (± 25 %): {share:.2f} (medians)"), table(head, rows)]
    )


def demo_times(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    cold, warm, again = (result[name]["seconds"] for name in ("cold", "warm", "again"))
    steps = list(result["cold"]["steps"])
    rows = [(step, *(f"{result[name]['steps'][step]:.0f}" for name in ("cold", "warm", "again"))) for step in steps] + [
        ("all", cold, warm, again),
        ("of the cold run", "1", ratio(warm, cold), ratio(again, cold)),
    ]
    return "\n\n".join(
        [
            "\n".join(
                [
                    "- " + judged(cold <= 1200, f"cold, with empty caches, at most 20 min: {cold / 60:.1f} min"),
                    "- " + judged(warm <= 240, f"warm, hosts made anew, at most 4 min: {warm / 60:.1f} min"),
                ]
            ),
            table(["step", "cold, s", "warm, s", "again at once, s"], rows),
        ]
    )


def requests(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{number} {verb}' for verb, number in counts.items())})"


def spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "one round"


def quiet(result: Mapping[str, Any]) -> str:
    """How idle the machine was during a contest, and against what it was held."""
    return (
        f"Against kubernetes.core {result['kubernetes_core']} and the cluster's own kubectl. "
        f"Of {result['starts']} starts, the least quiet found {100 * result['least_idle']:.0f} % of the cores idle."
    )


def cluster_apply(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    """Promises in time are judged by medians; an empty play is taken off where the cost of Ansible itself is not the matter."""
    unchanged, sizes, labels = result["unchanged"], result["sizes"], result["labels"]
    seconds, counted, objects = unchanged["seconds"], unchanged["counted"], unchanged["objects"]
    middle = {name: median(taken) for name, taken in seconds.items()}
    beyond = middle["ours"] - middle["empty"]
    typical = {size: median(entry["new_seconds"] + entry["changed_seconds"]) for size, entry in ((int(key), value) for key, value in sizes.items())}
    least, between, most = sorted(typical)
    expected = typical[least] + (typical[most] - typical[least]) * (between - least) / (most - least)
    straight = typical[between] / expected
    counts = [(int(size), entry[state]) for size, entry in sizes.items() for state in ("new", "changed")]
    asked = [(size, sum(count["requests"].values())) for size, count in counts]
    frugal = all(number <= 2 * size + 10 for size, number in asked)
    single = max(count["connections"] for _size, count in counts)
    promises = [
        judged(
            middle["ours"] <= middle["tasks"] / 10,
            f"{objects} unchanged objects take at most 1/10 of {objects} `k8s` tasks, whole plays: {middle['ours'] / middle['tasks']:.3f}",
        ),
        judged(middle["ours"] <= 0.7 * middle["list"], f"at most 0.7 of one `k8s` task with the list: {middle['ours'] / middle['list']:.2f}"),
        judged(beyond <= 3 * middle["kubectl"], f"beyond an empty play at most 3 times `kubectl apply --server-side`: {beyond / middle['kubectl']:.2f}"),
        judged(frugal, f"at most 2 requests an object and 10 more: {', '.join(f'{number} for {size}' for size, number in asked)}"),
        judged(single == 1, f"1 connection: {single}"),
        judged(0.85 <= straight <= 1.15, f"time is linear: {between} objects take {straight:.2f} of what {least} and {most} let expect (± 15 %)"),
    ]
    ways = [
        ("an empty play", "empty"),
        ("`kube_apply`, the list", "ours"),
        ("`kubernetes.core.k8s`, the list", "list"),
        (f"`kubernetes.core.k8s`, {objects} tasks", "tasks"),
        ("`kubectl apply --server-side`", "kubectl"),
    ]
    contest = [
        (
            what,
            f"{middle[name]:.2f}",
            spread(seconds[name]),
            ratio(middle[name], middle["ours"]),
            *((requests(counted[name]["requests"]), counted[name]["connections"]) if name in counted else ("-", "-")),
        )
        for what, name in ways
    ]
    growth = [
        (
            size,
            *(f"{median(entry[f'{state}_seconds']):.2f}" for state in ("new", "changed")),
            requests(entry["new"]["requests"]),
            requests(entry["changed"]["requests"]),
        )
        for size, entry in sizes.items()
    ]
    nodes = labels["nodes"]
    calls = [(f"one call, {nodes} nodes", "list"), ("again, nothing to change", "again"), (f"{nodes} calls", "each")]
    labelled = [(what, f"{labels[name]['seconds']:.2f}", requests(labels[name]["requests"]), labels[name]["connections"]) for what, name in calls]
    return "\n\n".join(
        [
            quiet(result),
            "\n".join(f"- {promise}" for promise in promises),
            f"{objects} unchanged ConfigMaps, Deployments and Services, whole processes:",
            table(["apply", "s, median", "s", "of ours", "requests", "connections"], contest),
            "ConfigMaps from a file by one `kube_apply`, whole plays:",
            table(["objects", "new, s", "changed, s", "requests, new", "requests, changed"], growth),
            "Labels by `kube_node`, whole plays:",
            table(["label", "s", "requests", "connections"], labelled),
        ]
    )


def cluster_drain(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    budget = result["budget"]
    after, peer = budget["after_seconds"], budget["peer"]
    promises, rows = [], []
    ways = [("an empty play", "empty"), ("`kube_drain`", "ours"), ("`kubectl drain`", "kubectl"), ("`kubernetes.core.k8s_drain`", "peer")]
    for size, seconds in result["sizes"].items():
        beyond = median(seconds["ours"]) - median(seconds["empty"])
        share = beyond / median(seconds["kubectl"])
        promises.append(judged(share <= 0.9, f"a drain of {size} pods takes, beyond an empty play, at most 0.9 of `kubectl drain`: {share:.2f}"))
        for what, name in ways:
            rows.append((size, what, f"{median(seconds[name]):.2f}", spread(seconds[name]), ratio(median(seconds[name]), median(seconds["ours"]))))
    longest, opens, kubelet = max(after["ours"]), budget["opens_seconds"], budget["kubelet_seconds"]
    promises.append(judged(longest <= 1.5, f"a drain that a budget blocks for {opens:.0f} s ends at most 1.5 s after it opened: {longest:.2f} s (longest)"))
    left = "cordoned" if peer["cordoned"] else "schedulable"
    blocked = [
        (
            "`kube_drain`",
            f"ends {median(after['ours']):.2f} s after it opened (median; {spread(after['ours'])}), "
            f"of which the kubelet needs {median(kubelet):.2f} s ({spread(kubelet)})",
        ),
        ("`kubectl drain`", f"ends {median(after['kubectl']):.2f} s after it opened; it asks again every 5 s"),
        ("`kubernetes.core.k8s_drain`", f"fails after {peer['seconds']:.1f} s, the node left {left}: {peer['message']}"),
    ]
    return "\n\n".join(
        [
            quiet(result),
            "\n".join(f"- {promise}" for promise in promises),
            "Whole processes. Pods have a grace period of 1 s and end on SIGTERM; all of them ran before, and none was left on the node after:",
            table(["pods", "drain", "s, median", "s", "of ours"], rows),
            f"A PodDisruptionBudget over {budget['pods']} pods, closed until {opens:.0f} s after the node was cordoned:",
            table(["drain", "what happens"], blocked),
            "Kubelets look once a second whether a pod's containers have ended. The rounds open the budget at moments spread evenly over such a second.",
        ]
    )


def cluster_wait(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    taken = result["milliseconds"]
    ways = [
        ("`kube_wait`, until Ansible says that it is done", "module"),
        ("`kubectl wait`, until its process has ended", "kubectl"),
        ("`kubernetes.core.k8s_info`, `until`, `delay: 1`, until Ansible says that it is done", "polling"),
    ]
    rows = [(what, len(taken[name]), *(f"{value:.0f}" for value in (median(taken[name]), min(taken[name]), max(taken[name])))) for what, name in ways]
    middle, samples = median(taken["module"]), len(taken["module"])
    return "\n\n".join(
        [
            quiet(result),
            "- " + judged(middle <= 100 and samples >= 20, f"a condition is seen at most 100 ms after the API has it: {middle:.0f} ms (median of {samples})"),
            table(["wait", "samples", "ms, median", "least", "most"], rows),
        ]
    )


def gpu_node(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    """Promises in time are judged by the median of the rounds."""
    reading, hung = result["reading"]["beyond_ping_seconds"], result["hung"]["beyond_ping_seconds"]
    visible = result["visible_seconds"]
    first, second = result["first_half_seconds"], result["second_half_seconds"]
    untouched = not (result["second_changed"] or result["restarted"] or result["plugin_replaced"])
    promises = [
        judged(reading <= 0.4, f"`gpu_info` takes at most 0.4 s on a host with {result['gpus']} GPUs, beyond a module that does nothing: {reading:.2f} s"),
        judged(hung <= 3, f"and at most 3 s if the driver hangs: {hung:.2f} s"),
        judged(first <= 30, f"the GPU half of `site.yml` takes at most 30 s on a prepared node: {first:.1f} s"),
        judged(untouched, f"the second run changes nothing and restarts neither K3s nor the plugin: {result['second_changed']} changed, {second:.1f} s"),
        *(
            judged(median(seconds) <= 20, f"{change} slices are offered at most 20 s after the first change: {median(seconds):.1f} s (median)")
            for change, seconds in visible.items()
        ),
    ]
    rows = [(change, ", ".join(f"{value:.1f}" for value in seconds), f"{median(seconds):.1f}") for change, seconds in visible.items()]
    return "\n\n".join(["\n".join(f"- {promise}" for promise in promises), table(["slices", "until the node offers them, s, each round", "median"], rows)])


def endpoint_watch(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    seconds = result["seconds"]

    def cost(run: Mapping[str, Any]) -> float:
        """Of a thousand questions, the start of the process included."""
        return 1000 * float(run["processor_seconds"]) / max(run["asked"], 1)

    ways = (("`endpoint_watch`", "watch"), ("`curl` and `sleep` in a loop", "loop"))
    promises, rows = [], []
    for rate, runs in result["rates"].items():
        planned, watch = int(rate) * seconds, runs["watch"]
        promises += [
            judged(abs(watch["asked"] / planned - 1) <= 0.03, f"at {rate}/s, {planned} questions in {seconds} s within 3 %: {watch['asked']}"),
            judged(cost(watch) < cost(runs["loop"]), f"with less processor time a question than the loop: {ratio(cost(watch), cost(runs['loop']))} of it"),
        ]
        rows += [(f"{rate}/s", what, planned, runs[name]["asked"], f"{cost(runs[name]):.1f}", ratio(cost(runs[name]), cost(watch))) for what, name in ways]
    planned, hanging = int(next(iter(result["rates"]))) * seconds, result["hanging"]
    asked = hanging["watch"]["asked"]
    promises.append(judged(abs(asked / planned - 1) <= 0.03, f"questions go on while the endpoint hangs for {result['hang_seconds']} s: {asked} of {planned}"))
    rows += [
        ("hanging", what, planned, hanging[name]["asked"], f"{cost(hanging[name]):.1f}", ratio(cost(hanging[name]), cost(hanging["watch"])))
        for what, name in ways
    ]
    head = ["rate", "way", "planned", "asked", "processor s for 1000", "of ours"]
    return "\n\n".join(["\n".join(f"- {promise}" for promise in promises), table(head, rows)])


SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any], Sequence[Mapping[str, str]]], str]]] = {
    "site_runs": site_runs,
    "join_scale": join_scale,
    "demo_times": demo_times,
    "gpu_node": gpu_node,
    "endpoint_watch": endpoint_watch,
    "cluster_apply": cluster_apply,
    "cluster_drain": cluster_drain,
    "cluster_wait": cluster_wait,
}
# Names for several sections
GROUPS: Final[Mapping[str, Sequence[str]]] = {"cluster_modules": ("cluster_apply", "cluster_drain", "cluster_wait"), "all": tuple(SECTIONS)}


def conditions(result: Mapping[str, Any]) -> str:
    """On what the figures were taken; a machine that was not idle is named as such."""
    cores, load = result["cores"], result["load_before"]
    if load > cores / 2:
        return f"Taken on {cores} cores that were **not idle** (load {load:.1f} before the start): seconds are worse than on idle ones, ratios uncertain."
    return f"Started on {cores} idle cores (load {load:.1f} before the start); what else began later was not watched."


def section_of(name: str, result: Mapping[str, Any], reasons: Sequence[Mapping[str, str]]) -> str:
    return f"{conditions(result)}\n\n{SECTIONS[name](result, reasons)}"


def renewed(document: str, name: str, section: str) -> str:
    """The document with what stands between the section's marks replaced."""
    begin, end = f"<!-- {name}: written by `python3 -m benchmarks {name}` -->", f"<!-- {name}: end -->"
    before, found_begin, rest = document.partition(begin)
    _old, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"docs/performance.md lacks the marks {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"
