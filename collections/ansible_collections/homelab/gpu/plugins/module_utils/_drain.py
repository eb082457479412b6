# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# decide() and forecast() are the pure part: what becomes of each pod, and which budgets would hold one back. Drain sends evictions from
# a few threads, and has one loop, one watch and one deadline for everything that comes back.

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import queue
import re
import threading
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Clock, Selection, Source, Timeline

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client

__all__ = ["Drain", "Forecast", "Plan", "Rules", "decide", "due", "forecast", "refuse", "selects"]

Object = dict[str, t.Any]

_MIRROR = "kubernetes.io/config.mirror"
_FINISHED = ("Succeeded", "Failed")
_THREADS = 8
# Without an answer to wait for, and without a sign of the budget, a blocked pod is tried again this often
_BLOCKED_PAUSE = 2.0
_FAILED_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
_LONGEST_REQUEST = 15.0
_BUDGET = re.compile(r"disruption budget (?P<name>\S+)")
_MOST_NAMED = 10
_PAST = {"delete": "deleted", "evict": "evicted"}


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which pods have to go, and what may be lost by it."""

    resource_names: tuple[str, ...] = ()
    """Only pods that request one of these go; patterns as of a shell. Empty: all go."""
    daemon_sets: bool = False
    force: bool = False
    delete_emptydir_data: bool = False
    disable_eviction: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of one pod."""

    pod: Object
    action: str
    """evict, delete, wait (it is on its way already), skip, or refuse."""
    reason: str = ""

    @property
    def goes(self) -> bool:
        return self.action in ("evict", "delete", "wait")

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def label(self) -> str:
        return f"{self.namespace}/{self.name}"


def decide(pod: Object, rules: Rules) -> Plan:
    metadata = pod["metadata"]
    controller = next((owner for owner in metadata.get("ownerReferences") or [] if owner.get("controller")), None)
    wanted = requested(pod, rules.resource_names)
    finished = (pod.get("status") or {}).get("phase") in _FINISHED
    away = "delete" if rules.disable_eviction else "evict"
    if _MIRROR in (metadata.get("annotations") or {}):
        return Plan(pod, "skip", "static pod, which only its node's kubelet can end")
    if rules.resource_names and not wanted:
        return Plan(pod, "skip", f"requests none of {', '.join(rules.resource_names)}")
    if metadata.get("deletionTimestamp"):
        return Plan(pod, "wait", "was being deleted already")
    if finished:
        return Plan(pod, away, "finished")
    if controller is not None and controller.get("kind") == "DaemonSet":
        if not rules.daemon_sets:
            return Plan(pod, "skip", f"of DaemonSet {controller.get('name')}, which would make it anew")
        # Budgets do not count them, and an eviction would wait for one in vain
        return Plan(pod, "delete", f"of DaemonSet {controller.get('name')}, which makes it anew unless a taint keeps it away")
    if controller is None and not rules.force:
        return Plan(pod, "refuse", "no controller would make it anew; set force=true to lose it")
    if not rules.delete_emptydir_data and any("emptyDir" in volume for volume in (pod.get("spec") or {}).get("volumes") or []):
        return Plan(pod, "refuse", "it has data in an emptyDir volume; set delete_emptydir_data=true to lose it")
    return Plan(pod, away, f"requests {wanted}" if wanted else "")


def requested(pod: Object, patterns: t.Sequence[str]) -> str:
    """The first resource that fits a pattern and that a container of the pod requests, else an empty string."""
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        for name, quantity in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            if str(quantity) != "0" and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                return str(name)
    return ""


def refuse(plans: t.Iterable[Plan]) -> None:
    """Fails if a pod must not go, naming all of them and the options that would let them."""
    refused = [f"{plan.label}: {plan.reason}" for plan in plans if plan.action == "refuse"]
    if refused:
        raise InputError(f"no pod was taken away, because some would be lost: {'; '.join(_shortened(refused))}")


def _shortened(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _MOST_NAMED else [*texts[:_MOST_NAMED], f"and {len(texts) - _MOST_NAMED} more"]


# Budgets


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A pod that could not be evicted now, and why."""

    plan: Plan
    budgets: tuple[str, ...]
    message: str


def forecast(plans: t.Iterable[Plan], budgets: t.Sequence[Object]) -> list[Forecast]:
    """Which evictions the budgets would refuse now, if the others were done one after the other and nothing took their place."""
    allowed = {_budget_key(budget): int((budget.get("status") or {}).get("disruptionsAllowed") or 0) for budget in budgets}
    blocked = []
    for plan in plans:
        if plan.action != "evict" or (plan.pod.get("status") or {}).get("phase") in (*_FINISHED, "Pending"):
            continue
        matching = _budgets_of(plan, budgets)
        names = tuple(budget["metadata"]["name"] for budget in matching)
        if len(matching) > 1:
            blocked.append(Forecast(plan, names, f"more than one budget selects it ({', '.join(names)}), so the API server refuses to evict it at all"))
        elif matching and not _ready(plan.pod) and _lets_unready_go(matching[0]):
            continue
        elif matching and allowed[_budget_key(matching[0])] < 1:
            blocked.append(Forecast(plan, names, f"budget {names[0]} allows no further disruption now"))
        elif matching:
            allowed[_budget_key(matching[0])] -= 1
    return blocked


def _budgets_of(plan: Plan, budgets: t.Iterable[Object]) -> list[Object]:
    labels = plan.pod["metadata"].get("labels") or {}
    return [budget for budget in budgets if budget["metadata"]["namespace"] == plan.namespace and selects((budget.get("spec") or {}).get("selector"), labels)]


def _budget_key(budget: Object) -> tuple[str, str]:
    return budget["metadata"]["namespace"], budget["metadata"]["name"]


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)


def _lets_unready_go(budget: Object) -> bool:
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    return int(status.get("currentHealthy") or 0) >= int(status.get("desiredHealthy") or 0) > 0


def selects(selector: Object | None, labels: t.Mapping[str, str]) -> bool:
    """Whether a label selector matches, as policy/v1 means it: an empty one matches all, none matches nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], rule.get("values") or []
        fits = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not fits[rule["operator"]]:
            return False
    return True


# Doing it


@dataclasses.dataclass
class _Leaving:
    """A pod on its way."""

    plan: Plan
    pod: Object
    """As last seen."""
    next_try: float | None
    """When to send the next request; None while one is under way or was accepted."""
    state: str
    """Empty, accepted or gone."""
    budget: tuple[str, str] | None = None
    """Namespace and name of the one that counts the pod, as far as it is known."""
    blocker: dict[str, str] | None = None
    attempts: int = 0
    requested_at: float | None = None
    gone_at: float | None = None
    error: str = ""
    under_way: bool = False


def due(all_leaving: t.Collection[_Leaving], now: float) -> list[_Leaving]:
    """
    Whose request is to be sent now. Pods of one budget go one after the other: the API server counts each of them off the same object,
    and lets a request that meets another one there wait for half a second.
    """
    found = []
    taken = {leaving.budget for leaving in all_leaving if leaving.under_way}
    for leaving in all_leaving:
        if leaving.next_try is None or leaving.next_try > now or (leaving.budget is not None and leaving.budget in taken):
            continue
        found.append(leaving)
        taken.add(leaving.budget)
    return found


class Drain:
    """Takes the chosen pods of one node away, all at the same time, and sees them go."""

    def __init__(
        self,
        client: Client,
        node: str,
        rules: Rules,
        *,
        label_selector: str | None,
        grace_period_seconds: int | None,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._rules = rules
        self._grace = grace_period_seconds
        self._timeout_seconds = timeout_seconds
        # That of the client's deadlines
        self._clock: Clock = time.monotonic
        self._start = self._clock()
        self.deadline = self._start + timeout_seconds
        self._timeline = Timeline(self._start)
        self._label_selector = label_selector
        # Without the labels: a pod that loses them is not gone
        self._pods = Selection(kind="Pod", judge=None, field_selector=f"spec.nodeName={node}")
        self._plans: list[Plan] = []
        self._leaving: dict[str, _Leaving] = {}
        self._news: queue.SimpleQueue[tuple[str, t.Any]] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[_Leaving | None] = queue.SimpleQueue()
        self._sources: list[Source] = []
        self._threads = 0
        self._watches_budgets = False

    # What there is

    def plans(self) -> list[Plan]:
        """The pods of the node as they are now, and what would become of each."""
        page = self._client.list_all(BUILTIN["Pod"], label_selector=self._label_selector, field_selector=self._pods.server_side_fields, deadline=self.deadline)
        self._plans = [decide(pod, self._rules) for pod in page.items]
        return self._plans

    def budgets(self) -> list[Object]:
        return self._client.list_all(BUILTIN["PodDisruptionBudget"], deadline=self.deadline).items

    @property
    def changed(self) -> bool:
        return any(leaving.requested_at is not None for leaving in self._leaving.values())

    def result(self) -> Object:
        """What happened so far; what would happen, if nothing was done."""
        return {
            "pods": [self._outcome(plan) for plan in self._plans],
            "blockers": [leaving.blocker for leaving in self._leaving.values() if leaving.blocker and leaving.state != "gone"],
            "waited_seconds": round(self._clock() - self._start, 3) if self._leaving else 0.0,
            "transitions": self._timeline.entries,
        }

    def _outcome(self, plan: Plan) -> Object:
        shown: Object = {"namespace": plan.namespace, "name": plan.name, "uid": plan.uid, "action": plan.action, "reason": plan.reason}
        leaving = self._leaving.get(plan.uid)
        if leaving is not None:
            shown.update(gone=leaving.state == "gone", requested_at_seconds=leaving.requested_at, gone_at_seconds=leaving.gone_at)
        return shown

    # Work

    def run(self) -> None:
        """Sends what has to be sent and returns when all are gone; raises WaitFailed after the deadline."""
        refuse(self.plans())
        for plan in self._plans:
            if plan.goes:
                self._leaving[plan.uid] = _Leaving(plan, plan.pod, *((None, "accepted") if plan.action == "wait" else (self._start, "")))
        if not self._leaving:
            return
        source = self._watch(self._pods, "pods")
        try:
            self._start_thread(source)
            self._find_budgets()
            # An answer may come after the pod is gone, and tells whether it went because of us
            while any(leaving.state != "gone" or leaving.under_way for leaving in self._leaving.values()):
                self._check_deadline()
                now = self._clock()
                self._send_due(now)
                # What is due by now waits for the answer to another one
                tries = [leaving.next_try for leaving in self._leaving.values() if leaving.next_try is not None and leaving.next_try > now]
                self._take(self._next(min([self.deadline, *tries])))
        finally:
            for watch in self._sources:
                watch.close()
            for _thread in range(self._threads):
                self._jobs.put(None)

    def _find_budgets(self) -> None:
        evicted = [leaving for leaving in self._leaving.values() if leaving.plan.action == "evict"]
        if len(evicted) < 2:
            return
        # Only to be quick: who may not see them learns of them by the API server's refusals
        with contextlib.suppress(KubeError):
            budgets = self._client.list_all(BUILTIN["PodDisruptionBudget"], timeout=self._longest_request(), retry=False).items
            for leaving in evicted:
                matching = _budgets_of(leaving.plan, budgets)
                if matching:
                    leaving.budget = _budget_key(matching[0])

    def _longest_request(self) -> float:
        return max(min(self.deadline - self._clock(), _LONGEST_REQUEST), 0.5)

    def _watch(self, selection: Selection, name: str) -> Source:
        source = Source(self._client, selection, None, lambda kind, payload: self._news.put((f"{name} {kind}", payload)), self.deadline, self._clock)
        self._sources.append(source)
        return source

    def _start_thread(self, source: Source) -> None:
        threading.Thread(target=source.run, daemon=True, name="kube-watch").start()

    def _next(self, until: float) -> tuple[str, t.Any] | None:
        with contextlib.suppress(queue.Empty):
            return self._news.get(timeout=max(until - self._clock(), 0.0))
        return None

    def _take(self, news: tuple[str, t.Any] | None) -> None:
        if news is None:
            return
        kind, payload = news
        if kind == "pods list":
            self._take_list(payload)
        elif kind == "pods event":
            self._take_event(payload["type"], payload["object"])
        elif kind in ("budgets list", "budgets event"):
            self._take_budgets(payload if kind == "budgets list" else [payload["object"]])
        elif kind in ("pods lost", "pods not served"):
            self._tell(str(payload))
        elif kind == "pods fatal":
            raise payload
        elif kind == "answer":
            self._take_answer(*payload)
        # Without a watch on budgets, blocked pods are tried again all the same, only later

    def _take_list(self, pods: list[Object]) -> None:
        there = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, leaving in self._leaving.items():
            if uid in there:
                leaving.pod = there[uid]
            else:
                self._gone(leaving)

    def _take_event(self, kind: str, pod: Object) -> None:
        leaving = self._leaving.get(pod["metadata"]["uid"])
        if leaving is None:
            return
        leaving.pod = pod
        if kind == "DELETED":
            self._gone(leaving)

    def _gone(self, leaving: _Leaving) -> None:
        if leaving.state != "gone":
            leaving.state, leaving.next_try, leaving.gone_at = "gone", None, self._seconds()
            self._tell(f"{leaving.plan.label}: gone")

    def _take_budgets(self, budgets: list[Object]) -> None:
        """As many as a budget allows to go have no reason to wait any longer."""
        now = self._clock()
        for budget in budgets:
            namespace, name = _budget_key(budget)
            held = [
                leaving
                for leaving in self._leaving.values()
                if leaving.next_try is not None
                and leaving.blocker
                and (leaving.plan.namespace, leaving.blocker["budget"]) in ((namespace, name), (namespace, ""))
            ]
            for leaving in held[: int((budget.get("status") or {}).get("disruptionsAllowed") or 0)]:
                leaving.next_try = now

    def _send_due(self, now: float) -> None:
        for leaving in due(self._leaving.values(), now):
            leaving.next_try, leaving.under_way = None, True
            leaving.attempts += 1
            if self._threads < min(_THREADS, len(self._leaving)):
                self._threads += 1
                threading.Thread(target=self._work, daemon=True, name="kube-evict").start()
            self._jobs.put(leaving)

    def _work(self) -> None:
        while True:
            leaving = self._jobs.get()
            if leaving is None:
                return
            try:
                self._request(leaving.plan)
                self._news.put(("answer", (leaving, None)))
            except KubeError as error:
                self._news.put(("answer", (leaving, error)))

    def _request(self, plan: Plan) -> None:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": plan.uid}}
        if self._grace is not None:
            options["gracePeriodSeconds"] = self._grace
        timeout = self._longest_request()
        if plan.action == "delete":
            self._client.request("DELETE", BUILTIN["Pod"].path(plan.namespace, plan.name), body=options, timeout=timeout, retry=False)
            return
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": plan.name, "namespace": plan.namespace}, "deleteOptions": options}
        self._client.request("POST", BUILTIN["Pod"].path(plan.namespace, plan.name, "eviction"), body=body, timeout=timeout, retry=False)

    def _take_answer(self, leaving: _Leaving, error: KubeError | None) -> None:
        leaving.under_way = False
        if error is None:
            leaving.requested_at = self._seconds() if leaving.gone_at is None else leaving.gone_at
        if leaving.state == "gone":
            return
        if error is None:
            leaving.state, leaving.blocker = "accepted", None
            self._tell(f"{leaving.plan.label}: {_PAST[leaving.plan.action]}")
            return
        status = error.status if isinstance(error, ApiError) else None
        if isinstance(error, ApiError) and (status == 404 or (status == 409 and "precondition" in error.message)):
            # It went by itself; one of the same name is another
            self._gone(leaving)
        elif isinstance(error, ApiError) and status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes):
            leaving.state = "accepted"
            self._tell(f"{leaving.plan.label}: its namespace is being deleted, and takes it along")
        elif isinstance(error, ApiError) and status == 429:
            self._blocked(leaving, error)
        elif isinstance(error, ApiError) and "more than one PodDisruptionBudget" in error.message:
            raise KubeError(
                f"pod {leaving.plan.label} cannot be evicted, because more than one PodDisruptionBudget selects it; "
                "leave it to one of them, or set disable_eviction=true to delete it without regard to budgets",
                **error.data,
            ) from error
        elif error.transient or status == 409:
            leaving.error = str(error)
            leaving.next_try = self._clock() + _FAILED_PAUSES[min(leaving.attempts, len(_FAILED_PAUSES)) - 1]
        else:
            raise KubeError(
                f"pod {leaving.plan.label} cannot be {'deleted' if leaving.plan.action == 'delete' else 'evicted'}: {error}", **error.data
            ) from error

    def _blocked(self, leaving: _Leaving, error: ApiError) -> None:
        told = next((cause.get("message", "") for cause in error.causes if cause.get("reason") == "DisruptionBudget"), error.message)
        match = _BUDGET.search(told)
        blocker = {"namespace": leaving.plan.namespace, "pod": leaving.plan.name, "budget": match["name"] if match else "", "message": told}
        if leaving.blocker != blocker:
            leaving.blocker = blocker
            leaving.budget = (leaving.plan.namespace, blocker["budget"]) if blocker["budget"] else leaving.budget
            self._tell(f"{leaving.plan.label}: blocked: {told}")
        leaving.next_try = self._clock() + (error.retry_after or _BLOCKED_PAUSE)
        if not self._watches_budgets:
            self._watches_budgets = True
            self._start_thread(self._watch(Selection(kind="PodDisruptionBudget", judge=None), "budgets"))

    # Time

    def _seconds(self) -> float:
        return round(self._clock() - self._start, 3)

    def _tell(self, what: str) -> None:
        self._timeline.add(self._clock(), what)

    def _check_deadline(self) -> None:
        left = [leaving for leaving in self._leaving.values() if leaving.state != "gone"]
        if left and self._clock() >= self.deadline:
            states = _shortened([f"{leaving.plan.label} {self._why(leaving)}" for leaving in left])
            raise WaitFailed(f"timed out after {self._timeout_seconds:g} s: {'; '.join(states)}", timed_out=True)

    def _why(self, leaving: _Leaving) -> str:
        if leaving.state != "accepted":
            if leaving.blocker:
                budget = f"budget {leaving.blocker['budget']}" if leaving.blocker["budget"] else "a budget"
                return f"is held back by {budget} ({leaving.blocker['message']})"
            return f"could not be sent away ({leaving.error or 'no answer yet'})"
        metadata = leaving.pod.get("metadata") or {}
        finalizers = metadata.get("finalizers")
        since = metadata.get("deletionTimestamp")
        # The API tells when the grace period ends, not when the deletion began
        return f"is still ending (its grace period ends {since or 'at an unknown time'}{', held by finalizers ' + ', '.join(finalizers) if finalizers else ''})"
