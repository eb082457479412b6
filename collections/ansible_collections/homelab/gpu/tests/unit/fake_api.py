# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An API server for tests: real HTTP, objects in memory, faults on demand.

It does what our modules use and no more: discovery, get, list with selectors and pages, watch, create, delete with finalizers and
preconditions, JSON merge patch with optimistic locking, server-side apply with field managers and conflicts, the subresource scale,
dry runs, commands in containers, logs, events in the shapes of both of their API groups. Nothing acts on objects by itself: what
controllers would make or report is put there by the tests.
What it answers follows the Kubernetes API reference; objects are not validated beyond that.
"""

from __future__ import annotations

import calendar
import copy
import dataclasses
import email.utils
import http.server
import json
import queue
import re
import threading
import time
import typing as t
import uuid
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.homelab.gpu.plugins.module_utils._drain import selects
from ansible_collections.homelab.gpu.tests.unit import fake_exec

Object = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class ScalePaths:
    """Where the subresource scale finds what it shows."""

    spec: str = ".spec.replicas"
    status: str = ".status.replicas"
    selector: str = ".spec.selector.matchLabels"


@dataclasses.dataclass(frozen=True)
class Kind:
    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    scale: ScalePaths | None = None

    @property
    def qualified(self) -> str:
        """As messages name it."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


KINDS = (
    Kind("v1", "Namespace", "namespaces", False),
    Kind("v1", "Node", "nodes", False),
    Kind("v1", "Pod", "pods"),
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "Event", "events"),
    Kind("v1", "Service", "services"),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind("v1", "PersistentVolume", "persistentvolumes", False),
    Kind("v1", "ReplicationController", "replicationcontrollers", scale=ScalePaths(selector=".spec.selector")),
    Kind("apps/v1", "ControllerRevision", "controllerrevisions"),
    Kind("apps/v1", "Deployment", "deployments", scale=ScalePaths()),
    Kind("apps/v1", "DaemonSet", "daemonsets"),
    Kind("apps/v1", "ReplicaSet", "replicasets", scale=ScalePaths()),
    Kind("apps/v1", "StatefulSet", "statefulsets", scale=ScalePaths()),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind("batch/v1", "CronJob", "cronjobs"),
    Kind("batch/v1", "Job", "jobs"),
    Kind("events.k8s.io/v1", "Event", "events"),
    Kind("coordination.k8s.io/v1", "Lease", "leases"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False),
)


@dataclasses.dataclass
class Fault:
    """What the next matching requests get instead of an answer."""

    method: str = ""
    """Empty: any. WATCH stands for a GET that watches."""
    path: str = ""
    """A part of the path."""
    status: int = 0
    reason: str = ""
    message: str = "injected"
    retry_after: int | None = None
    drop: bool = False
    """Close the connection without an answer."""
    lose_answer: bool = False
    """Do what is asked, but close the connection instead of saying so."""
    cut_after: int | None = None
    """For watches and logs: close the connection after so many events or lines."""
    gone_after: int | None = None
    """For watches: an ERROR event with code 410 after so many events."""
    end_after: int | None = None
    """For logs: end after so many lines, as if these were all."""
    delay: float = 0.0
    times: int = 1

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("", method) and self.path in path


@dataclasses.dataclass(frozen=True)
class Event:
    """What happened to an object, and what it was like before."""

    version: int
    kind: str
    obj: Object
    before: Object | None = None

    def seen_through(self, query: dict[str, str]) -> Object | None:
        """What a watch with selectors is told: what leaves its selection is deleted for it, and what enters is added."""
        was = self.before is not None and selected(self.before, query)
        now = self.kind != "DELETED" and selected(self.obj, query)
        if was and not now:
            old = copy.deepcopy(t.cast("Object", self.before))
            old["metadata"]["resourceVersion"] = self.obj["metadata"]["resourceVersion"]
            return {"type": "DELETED", "object": old}
        return {"type": "MODIFIED" if was else "ADDED", "object": self.obj} if now else None


class ApiFailure(Exception):
    def __init__(self, status: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Object = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status}
        if causes:
            self.body["details"] = {"causes": causes}


class FakeApi:
    """Use as a context manager; C(url) is where it listens."""

    def __init__(self) -> None:
        self.kinds = list(KINDS)
        self.objects: dict[tuple[str, str, str, str], Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        self.headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.page_size: int | None = None
        self.hooks: list[t.Callable[[str, Object], Object | None]] = []
        """Called with the verb and the object about to be stored; may return another, or raise ApiFailure."""
        self.before: t.Callable[[str, str], object] | None = None
        """Called with method and path of each request before it is looked at: the moment for another writer."""
        self.on_watch: t.Callable[[str], object] | None = None
        """Called with the path each time a watch was opened, or a log to be followed: the moment at which a test lets things happen."""
        self.run_command: t.Callable[[fake_exec.Session], object] = fake_exec.run_here
        """Does what a container does with a command; may break off the connection by an OSError."""
        self.exec_protocols: tuple[str, ...] = fake_exec.PROTOCOLS
        self.logs: dict[str, list[tuple[int, bytes]]] = {}
        """By the ID of the container's run: what it wrote, and when, in nanoseconds since the epoch."""
        self.token: str | None = None
        self._version = 100
        self._oldest_version = self._version
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._log: list[tuple[Kind, Event]] = []
        self._watchers: list[tuple[Kind, queue.SimpleQueue[Event]]] = []
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.cluster_uid = self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})["metadata"]["uid"]
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})

    # Life

    def __enter__(self) -> FakeApi:
        return self.start()

    def __exit__(self, *_unused: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> FakeApi:
        self._server = _Server(("127.0.0.1", port), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Also cuts every connection, as a killed server does."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.cut_connections()
        self._server.server_close()
        self._thread.join()
        self._server = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, token: str = "test-token") -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": token}}],
        }

    # What a test does to the cluster behind the server's back

    def log(self, run: str, *lines: str | bytes, at: float = 0.0) -> None:
        """Lets a run of a container write lines, C(at) seconds after the start of 2026, and each a millisecond after the one before."""
        with self._lock:
            written = self.logs.setdefault(run, [])
            for line in lines:
                moment = max(_YEAR_2026 + int(at * 10**9), written[-1][0] + 10**6 if written and not at else 0)
                written.append((moment, line if isinstance(line, bytes) else line.encode()))
            self._news.notify_all()

    def put(self, obj: Object) -> Object:
        """Creates or replaces an object as it is, status included."""
        with self._lock:
            kind = self._kind_of(obj["apiVersion"], obj["kind"])
            key = self._key(kind, obj["metadata"].get("namespace", "default" if kind.namespaced else ""), obj["metadata"]["name"])
            stored = copy.deepcopy(obj)
            if kind.namespaced:
                stored["metadata"].setdefault("namespace", "default")
            old = self.objects.get(key)
            if old is not None:
                stored["metadata"] = {**stored["metadata"], "uid": old["metadata"]["uid"]}
            return copy.deepcopy(self._store(kind, key, stored, "ADDED" if old is None else "MODIFIED"))

    def change(self, kind: str, name: str, namespace: str = "", **fields: t.Any) -> Object:
        """Merges fields into an existing object."""
        with self._lock:
            found = self.find(kind, name, namespace)
            return self.put(merge_patch(found, fields))

    def find(self, kind: str, name: str, namespace: str = "") -> Object:
        with self._lock:
            for (_api_version, found_kind, found_namespace, found_name), obj in self.objects.items():
                if (found_kind, found_name) == (kind, name) and (not namespace or namespace == found_namespace):
                    return copy.deepcopy(obj)
        raise KeyError(f"{kind} {namespace}/{name}")

    def drop(self, kind: str, name: str, namespace: str = "") -> None:
        """Deletes at once, finalizers or not."""
        with self._lock:
            for key, obj in list(self.objects.items()):
                if (key[1], key[3]) == (kind, name) and (not namespace or namespace == key[2]):
                    self._remove(self._kind_of(obj["apiVersion"], kind), key)

    def settle(self, *_unused: object) -> None:
        """Does what controllers would do: each workload has as many pods as it wants, all of them ready and of its present template."""
        with self._lock:
            for obj in list(self.objects.values()):
                if "template" in (obj.get("spec") or {}):
                    counted: tuple[str, ...] = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
                    counted += ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
                    told = {"observedGeneration": obj["metadata"].get("generation", 1), **dict.fromkeys(counted, obj["spec"].get("replicas", 1))}
                    status = {**(obj.get("status") or {}), **told}
                    if status != obj.get("status"):
                        self.put({**obj, "status": status})

    def go_back(self, version: int) -> None:
        """As from a backup: counts on from an older version and knows nothing of what came later."""
        with self._lock:
            self._version = self._oldest_version = version
            self._log = []

    def compact(self) -> None:
        """From now on, watches from older versions are told 410."""
        with self._lock:
            self._oldest_version = self._version

    def bookmark(self) -> None:
        """Tells watches that want to know it the present version."""
        with self._lock:
            for kind, events in self._watchers:
                events.put(Event(self._version, "BOOKMARK", self._bookmark(kind)))

    def _bookmark(self, kind: Kind) -> Object:
        return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(self._version)}}

    def count(self, method: str = "", path: str = "") -> int:
        return sum(1 for seen_method, seen_path in self.requests if method in ("", seen_method) and path in seen_path)

    # Storage

    def _kind_of(self, api_version: str, name: str) -> Kind:
        for kind in self.kinds:
            if (kind.api_version, kind.name) == (api_version, name):
                return kind
        raise KeyError(f"{api_version} {name}")

    @staticmethod
    def _key(kind: Kind, namespace: str, name: str) -> tuple[str, str, str, str]:
        return (kind.api_version, kind.name, namespace if kind.namespaced else "", name)

    def _store(self, kind: Kind, key: tuple[str, str, str, str], obj: Object, event: str) -> Object:
        self._version += 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        if kind.name == "Namespace":
            obj.setdefault("status", {"phase": "Active"})
        before = self.objects.get(key)
        self.objects[key] = obj
        if kind.name == "CustomResourceDefinition":
            self._serve_custom(obj)
        self._tell(event, kind, obj, before)
        return obj

    def _remove(self, kind: Kind, key: tuple[str, str, str, str]) -> None:
        obj = self.objects.pop(key)
        self._version += 1
        last = copy.deepcopy(obj)
        last["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", kind, last, obj)

    def _tell(self, what: str, kind: Kind, obj: Object, before: Object | None) -> None:
        self._news.notify_all()
        event = Event(self._version, what, copy.deepcopy(obj), copy.deepcopy(before))
        self._log.append((kind, event))
        for watched, events in self._watchers:
            if watched == kind:
                events.put(event)

    def _serve_custom(self, definition: Object) -> None:
        established = any(entry["type"] == "Established" and entry["status"] == "True" for entry in (definition.get("status") or {}).get("conditions") or [])
        spec = definition["spec"]
        for version in spec["versions"]:
            paths = (version.get("subresources") or {}).get("scale")
            scale = ScalePaths(paths["specReplicasPath"], paths["statusReplicasPath"], paths.get("labelSelectorPath", "")) if paths else None
            kind = Kind(f"{spec['group']}/{version['name']}", spec["names"]["kind"], spec["names"]["plural"], spec.get("scope") != "Cluster", scale)
            if established and kind not in self.kinds:
                self.kinds.append(kind)

    # Verbs

    def answer(self, method: str, path: str, query: dict[str, str], body: t.Any, content_type: str, accept: str) -> tuple[int, t.Any]:
        with self._lock:
            parts = [unquote(part) for part in path.strip("/").split("/")]
            if path == "/version":
                return 200, {"gitVersion": "v1.34.1+k3s1"}
            if path in ("/readyz", "/livez", "/healthz"):
                return 200, "ok"
            if path == "/apis":
                return 200, self._groups("as=APIGroupDiscoveryList" in accept)
            if parts[0] == "api" and len(parts) >= 2:
                api_version, rest = parts[1], parts[2:]
            elif parts[0] == "apis" and len(parts) >= 3:
                api_version, rest = f"{parts[1]}/{parts[2]}", parts[3:]
            else:
                raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
            if not rest:
                return 200, self._resources(api_version)
            namespace = ""
            if rest[0] == "namespaces" and len(rest) > 2:
                namespace, rest = rest[1], rest[2:]
            kind = next((kind for kind in self.kinds if (kind.api_version, kind.plural) == (api_version, rest[0])), None)
            if kind is None:
                raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
            if rest[2:] == ["eviction"] and kind.name == "Pod" and method == "POST":
                return self._evict(kind, namespace, rest[1], query, body)
            if len(rest) == 1:
                return self._collection(method, kind, namespace, query, body)
            if rest[2:] == ["scale"] and kind.scale is not None:
                return self._scale(method, kind, kind.scale, namespace, rest[1], query, body)
            if len(rest) > 2:
                raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
            return self._single(method, kind, namespace, rest[1], query, body, content_type)

    def _groups(self, aggregated: bool) -> Object:
        groups: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            if "/" in kind.api_version:
                groups.setdefault(kind.api_version.split("/")[0], []).append(kind)
        if not aggregated:
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [{"name": name, "preferredVersion": {"groupVersion": kinds[0].api_version}} for name, kinds in groups.items()],
            }
        items = []
        for name, kinds in groups.items():
            versions: dict[str, list[Object]] = {}
            for kind in kinds:
                versions.setdefault(kind.api_version.split("/")[1], []).append(
                    {"resource": kind.plural, "responseKind": {"kind": kind.name}, "scope": "Namespaced" if kind.namespaced else "Cluster"}
                )
            items.append({"metadata": {"name": name}, "versions": [{"version": version, "resources": found} for version, found in versions.items()]})
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}

    def _resources(self, api_version: str) -> Object:
        kinds = [kind for kind in self.kinds if kind.api_version == api_version]
        if not kinds:
            raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
        resources: list[Object] = []
        for kind in kinds:
            resources.append({"name": kind.plural, "kind": kind.name, "namespaced": kind.namespaced})
            resources.append({"name": f"{kind.plural}/status", "kind": kind.name, "namespaced": kind.namespaced})
        return {"kind": "APIResourceList", "groupVersion": api_version, "resources": resources}

    def _collection(self, method: str, kind: Kind, namespace: str, query: dict[str, str], body: t.Any) -> tuple[int, t.Any]:
        if method == "GET":
            check_selectors(kind, query)
            token = query.get("continue")
            if token:
                version, found = self._continued(token)
            else:
                version = self._version
                found = [
                    {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
                    for namespaced, obj in self._all_of(kind)
                    if (not namespace or namespaced == namespace) and selected(obj, query)
                ]
            metadata: Object = {"resourceVersion": str(version)}
            size = min(int(query.get("limit") or 0) or len(found) or 1, self.page_size or len(found) or 1)
            if size < len(found):
                metadata["continue"] = f"{version}-{len(self._pages)}"
                self._pages[metadata["continue"]] = (version, copy.deepcopy(found[size:]))
            return 200, copy.deepcopy({"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": found[:size]})
        if method == "POST":
            obj = copy.deepcopy(body)
            key = self._key(kind, namespace, obj["metadata"]["name"])
            if key in self.objects:
                raise ApiFailure(409, "AlreadyExists", f'{kind.qualified} "{key[3]}" already exists')
            return 201, self._write("create", kind, key, obj, query)
        raise _not_allowed()

    def _all_of(self, kind: Kind) -> t.Iterator[tuple[str, Object]]:
        """With their namespaces. Events are stored in one shape, and shown in two."""
        is_view = (kind.api_version, kind.name) == ("events.k8s.io/v1", "Event")
        for key, obj in sorted(self.objects.items()):
            if key[:2] == ("v1" if is_view else kind.api_version, kind.name):
                yield key[2], as_regarding(obj) if is_view else obj

    def _continued(self, token: str) -> tuple[int, list[Object]]:
        if token not in self._pages:
            raise ApiFailure(400, "BadRequest", "continue key is not valid")
        version, found = self._pages[token]
        if version < self._oldest_version:
            raise ApiFailure(410, "Expired", "The provided continue parameter is too old to display a consistent list result.")
        return version, found

    def _single(self, method: str, kind: Kind, namespace: str, name: str, query: dict[str, str], body: t.Any, content_type: str) -> tuple[int, t.Any]:
        key = self._key(kind, namespace, name)
        current = self.objects.get(key)
        if method not in ("GET", "PATCH", "DELETE"):
            raise _not_allowed()
        if method == "PATCH" and content_type == "application/apply-patch+yaml":
            return self._apply(kind, key, current, body, query)
        if current is None:
            raise ApiFailure(404, "NotFound", f'{kind.qualified} "{name}" not found')
        if method == "GET":
            return 200, copy.deepcopy(current)
        if method == "PATCH" and content_type == "application/merge-patch+json":
            version = (body.get("metadata") or {}).get("resourceVersion")
            if version and version != current["metadata"]["resourceVersion"]:
                raise ApiFailure(409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": the object has been modified')
            return 200, self._write("patch", kind, key, merge_patch(current, body), query)
        if method == "DELETE":
            return self._delete(kind, key, current, query, body or {})
        raise ApiFailure(415, "UnsupportedMediaType", "the body of the request was in an unknown format")

    def _scale(self, method: str, kind: Kind, paths: ScalePaths, namespace: str, name: str, query: dict[str, str], body: t.Any) -> tuple[int, t.Any]:
        key = self._key(kind, namespace, name)
        current = self.objects.get(key)
        if current is None:
            raise ApiFailure(404, "NotFound", f'{kind.qualified} "{name}" not found')
        if method == "GET":
            return 200, _scale_of(current, paths)
        if method != "PATCH":
            raise _not_allowed()
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version and version != current["metadata"]["resourceVersion"]:
            raise ApiFailure(409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": the object has been modified')
        replicas = body["spec"]["replicas"]
        if replicas < 0:
            cause = {"reason": "FieldValueInvalid", "message": f"Invalid value: {replicas}: must be greater than or equal to 0", "field": "spec.replicas"}
            raise ApiFailure(422, "Invalid", f'Scale.autoscaling "{name}" is invalid: spec.replicas: {cause["message"]}', [cause])
        *parents, last = paths.spec.strip(".").split(".")
        patch: Object = {last: replicas}
        for step in reversed(parents):
            patch = {step: patch}
        return 200, _scale_of(self._write("scale", kind, key, merge_patch(current, patch), query), paths)

    def _write(self, verb: str, kind: Kind, key: tuple[str, str, str, str], obj: Object, query: dict[str, str]) -> Object:
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.name)
        if kind.namespaced:
            obj["metadata"]["namespace"] = key[2]
            if ("v1", "Namespace", "", key[2]) not in self.objects:
                raise ApiFailure(404, "NotFound", f'namespaces "{key[2]}" not found')
        for hook in self.hooks:
            obj = hook(verb, obj) or obj
        _validate(kind, obj)
        old = self.objects.get(key)
        if old is not None and _content(old) == _content(obj):
            return copy.deepcopy(old)
        if query.get("dryRun") == "All":
            shown = copy.deepcopy(obj)
            shown["metadata"].setdefault("uid", str(uuid.uuid4()))
            shown["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            return shown
        if kind.namespaced or kind.name != "Node":
            metadata = obj["metadata"]
            generation = (old or {}).get("metadata", {}).get("generation", 0)
            metadata["generation"] = generation + (1 if old is None or old.get("spec") != obj.get("spec") else 0)
        shown = copy.deepcopy(self._store(kind, key, obj, "ADDED" if old is None else "MODIFIED"))
        if shown["metadata"].get("deletionTimestamp") and not shown["metadata"].get("finalizers"):
            self._remove(kind, key)
        return shown

    def _delete(self, kind: Kind, key: tuple[str, str, str, str], current: Object, query: dict[str, str], options: Object) -> tuple[int, t.Any]:
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != current["metadata"]["uid"]:
            raise ApiFailure(409, "Conflict", f"the UID in the precondition ({uid}) does not match the UID in record")
        if query.get("dryRun") == "All" or options.get("dryRun") == ["All"]:
            return 200, copy.deepcopy(current)
        if self._ends_gracefully(kind, current, options):
            marked = copy.deepcopy(current)
            grace = options.get("gracePeriodSeconds", (current.get("spec") or {}).get("terminationGracePeriodSeconds", 30))
            marked["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:01:00Z")
            marked["metadata"]["deletionGracePeriodSeconds"] = grace
            return 200, copy.deepcopy(self._store(kind, key, marked, "MODIFIED"))
        if current["metadata"].get("finalizers"):
            marked = copy.deepcopy(current)
            marked["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
            return 200, copy.deepcopy(self._store(kind, key, marked, "MODIFIED"))
        self._remove(kind, key)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    @staticmethod
    def _ends_gracefully(kind: Kind, current: Object, options: Object) -> bool:
        """A pod that a kubelet has is only marked; the kubelet ends it, which is for a test to do by C(drop)."""
        spec = current.get("spec") or {}
        if kind.name != "Pod" or not spec.get("nodeName") or (current.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return False
        return bool(options.get("gracePeriodSeconds", spec.get("terminationGracePeriodSeconds", 30)) != 0)

    def _evict(self, kind: Kind, namespace: str, name: str, query: dict[str, str], body: Object) -> tuple[int, t.Any]:
        key = self._key(kind, namespace, name)
        current = self.objects.get(key)
        if current is None:
            raise ApiFailure(404, "NotFound", f'pods "{name}" not found')
        options = body.get("deleteOptions") or {}
        status = current.get("status") or {}
        budgets = [
            (found, budget)
            for found, budget in self.objects.items()
            if found[1:3] == ("PodDisruptionBudget", namespace) and selects(budget["spec"].get("selector"), current["metadata"].get("labels") or {})
        ]
        if status.get("phase") in ("Succeeded", "Failed", "Pending") or current["metadata"].get("deletionTimestamp"):
            budgets = []
        if len(budgets) > 1:
            raise ApiFailure(500, "InternalError", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
        for found, budget in budgets:
            left = (budget.get("status") or {}).get("disruptionsAllowed", 0)
            if left < 1:
                counts = budget.get("status") or {}
                text = f"needs {counts.get('desiredHealthy', 0)} healthy pods and has {counts.get('currentHealthy', 0)} currently"
                cause = {"reason": "DisruptionBudget", "message": f"The disruption budget {found[3]} {text}"}
                raise ApiFailure(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", [cause])
            if query.get("dryRun") != "All" and options.get("dryRun") != ["All"]:
                spent = merge_patch(budget, {"status": {"disruptionsAllowed": left - 1}})
                self._store(self._kind_of(found[0], found[1]), found, spent, "MODIFIED")
        self._delete(kind, key, current, query, options)
        return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _apply(self, kind: Kind, key: tuple[str, str, str, str], current: Object | None, body: Object, query: dict[str, str]) -> tuple[int, t.Any]:
        manager = query.get("fieldManager")
        if not manager:
            raise ApiFailure(400, "BadRequest", "fieldManager is required for apply patch")
        if (body.get("metadata") or {}).get("managedFields"):
            raise ApiFailure(400, "BadRequest", "metadata.managedFields must be nil")
        old = copy.deepcopy(current) if current is not None else {}
        owned = {entry["manager"]: set(paths_of(entry["fieldsV1"])) for entry in (old.get("metadata") or {}).get("managedFields") or []}
        wanted = leaves(body)
        existing = leaves(old)
        conflicts = {
            path: other
            for path, value in wanted.items()
            for other, fields in owned.items()
            if other != manager and path in fields and existing.get(path) != value
        }
        if conflicts and query.get("force") != "true":
            raise ApiFailure(
                409,
                "Conflict",
                f"Apply failed with {len(conflicts)} conflict(s)",
                [
                    {
                        "reason": "FieldManagerConflict",
                        "message": f'conflict with "{other}" using {kind.api_version}',
                        "field": "".join(f".{step}" for step in path),
                    }
                    for path, other in conflicts.items()
                ],
            )
        new = merge_patch(old, body)
        for path in owned.get(manager, set()) - set(wanted):
            if not any(path in fields for other, fields in owned.items() if other != manager):
                remove_leaf(new, path)
        for path in conflicts:
            owned[conflicts[path]].discard(path)
        owned[manager] = set(wanted)
        new["metadata"]["name"] = key[3]
        times = {entry["manager"]: entry.get("time") for entry in (old.get("metadata") or {}).get("managedFields") or []}
        new["metadata"]["managedFields"] = [
            {"manager": name, "operation": "Apply", "apiVersion": kind.api_version, "time": times.get(name)}
            | {"fieldsType": "FieldsV1", "fieldsV1": fields_of(paths)}
            for name, paths in sorted(owned.items())
            if paths
        ]
        if current is None or _content(new) != _content(current):
            for entry in new["metadata"]["managedFields"]:
                if entry["manager"] == manager:
                    entry["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return (201 if current is None else 200), self._write("apply", kind, key, new, query)

    # Logs

    def read_log(self, path: str, query: dict[str, str]) -> t.Iterator[bytes | None]:
        """Lines with their ends; when following, None now and then, so that the caller notices when it should stop."""
        with self._lock:
            parts = [unquote(part) for part in path.strip("/").split("/")]
            key = ("v1", "Pod", parts[3], parts[5])
            if key not in self.objects:
                raise ApiFailure(404, "NotFound", f'pods "{parts[5]}" not found')
            container, run = self._run_with_log(self.objects[key], query)
            written = self.logs.get(run, [])
            first, moments = 0, [moment for moment, _line in written]
            oldest = _moment_of(query.get("sinceTime")) or (time.time() - float(query.get("sinceSeconds") or "inf")) * 10**9
            while first < len(moments) and moments[first] < oldest:
                first += 1
            if query.get("tailLines"):
                first = max(first, len(written) - int(query["tailLines"]))
        position = first
        while True:
            with self._lock:
                fresh = self.logs.get(run, [])[position:]
                status = _container_statuses(self.objects.get(key, {})).get(container, {})
                is_running = (status.get("state") or {}).get("running") is not None and status.get("containerID") == run
                if not fresh and (query.get("follow") != "true" or not is_running):
                    return
                if not fresh:
                    self._news.wait(0.01)
            if not fresh:
                yield None
            for moment, line in fresh:
                position += 1
                yield (_stamp(moment).encode() + b" " if query.get("timestamps") == "true" else b"") + line + b"\n"

    def _run_with_log(self, pod: Object, query: dict[str, str]) -> tuple[str, str]:
        name, spec = pod["metadata"]["name"], pod.get("spec") or {}
        names = [[container["name"] for container in spec.get(section) or []] for section in ("containers", "initContainers")]
        container = query.get("container") or ""
        if not container and len(names[0]) + len(names[1]) > 1:
            inits = f" or one of the init containers: [{' '.join(names[1])}]" if names[1] else ""
            raise ApiFailure(400, "BadRequest", f"a container name must be specified for pod {name}, choose one of: [{' '.join(names[0])}]{inits}")
        container = container or names[0][0]
        if container not in names[0] + names[1]:
            raise ApiFailure(400, "BadRequest", f"container {container} is not valid for pod {name}")
        status = _container_statuses(pod).get(container, {})
        state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated") or {}
        if query.get("previous") == "true":
            if not last:
                raise ApiFailure(400, "BadRequest", f'previous terminated container "{container}" in pod "{name}" not found')
            return container, last.get("containerID", "")
        if "waiting" in state and not last:
            raise ApiFailure(400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start: {state["waiting"].get("reason", "")}')
        return container, (last if "waiting" in state else {**status, **(state.get("terminated") or {})}).get("containerID", "")

    # Watching

    def watch(self, path: str, query: dict[str, str]) -> t.Iterator[Object | None]:
        """Events; None now and then, so that the caller notices when it should stop."""
        with self._lock:
            parts = path.strip("/").split("/")
            namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""
            prefix = "/".join(parts[1:2] if parts[0] == "api" else parts[1:3])
            kind = next((kind for kind in self.kinds if (kind.api_version, kind.plural) == (prefix, parts[-1])), None)
            if kind is None:
                raise ApiFailure(404, "NotFound", "the server could not find the requested resource")
            check_selectors(kind, query)
            since = int(query.get("resourceVersion") or 0)
            if since < self._oldest_version:
                raise ApiFailure(410, "Expired", f"too old resource version: {since} ({self._oldest_version})")
            events: queue.SimpleQueue[Event] = queue.SimpleQueue()
            for logged, event in self._log:
                if logged == kind and event.version > since:
                    events.put(event)
            bookmarks = query.get("allowWatchBookmarks") == "true"
            watcher = (kind, events)
            self._watchers.append(watcher)
        try:
            end = time.monotonic() + float(query.get("timeoutSeconds") or 60)
            while time.monotonic() < end:
                try:
                    event = events.get(timeout=0.01)
                except queue.Empty:
                    yield None
                    continue
                if event.kind == "BOOKMARK":
                    if bookmarks:
                        yield {"type": event.kind, "object": event.obj}
                    continue
                told = event.seen_through(query)
                if told is not None and (not namespace or event.obj["metadata"].get("namespace") == namespace):
                    yield told
            if bookmarks:
                yield {"type": "BOOKMARK", "object": self._bookmark(kind)}
        finally:
            with self._lock:
                self._watchers.remove(watcher)

    def container_for(self, namespace: str, pod: str, wanted: str | None) -> tuple[str, bool]:
        """The container that a command is for, and whether it runs."""
        with self._lock:
            found = self.objects.get(("v1", "Pod", namespace, pod))
            if found is None:
                raise ApiFailure(404, "NotFound", f'pods "{pod}" not found')
            names = [container["name"] for container in found["spec"]["containers"]]
            if wanted is None and len(names) > 1:
                raise ApiFailure(400, "BadRequest", f"a container name must be specified for pod {pod}, choose one of: [{' '.join(names)}]")
            if wanted is not None and wanted not in names:
                raise ApiFailure(400, "BadRequest", f"container {wanted} is not valid for pod {pod}")
            name = wanted or names[0]
            statuses = (found.get("status") or {}).get("containerStatuses") or []
            return name, any(status["name"] == name and "running" in status["state"] for status in statuses)


def _not_allowed() -> ApiFailure:
    return ApiFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def _scale_of(obj: Object, paths: ScalePaths) -> Object:
    def at(path: str) -> t.Any:
        node: t.Any = obj
        for step in path.strip(".").split("."):
            node = node.get(step) if isinstance(node, dict) else None
        return node

    selector = at(paths.selector)
    metadata = {field: obj["metadata"][field] for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    status: Object = {"replicas": at(paths.status) or 0}
    if selector:
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items())) if isinstance(selector, dict) else selector
    replicas = at(paths.spec)
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {"replicas": replicas} if replicas else {}, "status": status}


def _validate(kind: Kind, obj: Object) -> None:
    """Names and labels only."""
    metadata = obj["metadata"]
    causes = []
    if len(metadata["name"]) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?", metadata["name"]):
        causes.append(("metadata.name", metadata["name"], "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"))
    for value in (metadata.get("labels") or {}).values():
        if value and (len(value) > 63 or not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", value)):
            causes.append(("metadata.labels", value, "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"))
    if causes:
        told = [{"reason": "FieldValueInvalid", "message": f'Invalid value: "{value}": {why}', "field": field} for field, value, why in causes]
        text = "; ".join(f"{entry['field']}: {entry['message']}" for entry in told)
        raise ApiFailure(422, "Invalid", f'{kind.name} "{metadata["name"]}" is invalid: {text}', told)


_FIELDS = {
    "v1 Event": {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "reason", "source", "type"},
    "events.k8s.io/v1 Event": {"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason", "type"},
    "Job": {"status.successful"},
    "Namespace": {"status.phase"},
    "Node": {"spec.unschedulable"},
    "Pod": {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase", "status.podIP"},
    "Secret": {"type"},
}


_YEAR_2026 = 1767225600 * 10**9


def _stamp(moment: int) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment // 10**9))}.{moment % 10**9:09d}Z"


def _moment_of(text: str | None) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) * 10**9 if text else 0


def _container_statuses(pod: Object) -> dict[str, Object]:
    status = pod.get("status") or {}
    return {entry["name"]: entry for section in ("initContainerStatuses", "containerStatuses") for entry in status.get(section) or []}


_REGARDING = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "reportingComponent": "reportingController",
}


def as_regarding(event: Object) -> Object:
    """An event of v1 as events.k8s.io/v1 has it."""
    return {**{_REGARDING.get(key, key): value for key, value in event.items()}, "apiVersion": "events.k8s.io/v1"}


def check_selectors(kind: Kind, query: dict[str, str]) -> None:
    for part in _requirements(query.get("labelSelector") or ""):
        if not re.fullmatch(r"!?[^\s=!,()]+|[^\s=!,()]+ *(==?|!=) *[^\s=!,()]*|[^\s=!,()]+ +(in|notin) +\(.*\)", part):
            raise ApiFailure(400, "BadRequest", f"unable to parse requirement: {part}")
    for part in filter(None, (query.get("fieldSelector") or "").split(",")):
        field, equals, _value = part.partition("=")
        field = field.rstrip("!")
        if not equals:
            raise ApiFailure(400, "BadRequest", f"invalid selector: '{part}'; can't understand '{part}'")
        known = _FIELDS.get(f"{kind.api_version} {kind.name}") or _FIELDS.get(kind.name, set())
        if field not in {"metadata.name", "metadata.namespace"} | known:
            raise ApiFailure(400, "BadRequest", f"field label not supported: {field}")


def _requirements(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def selected(obj: Object, query: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    if not all(_fits(labels, requirement) for requirement in _requirements(query.get("labelSelector") or "")):
        return False
    for part in filter(None, (query.get("fieldSelector") or "").split(",")):
        key, _equals, value = part.partition("=")
        node: t.Any = obj
        for step in key.rstrip("!").split("."):
            node = (node or {}).get(step)
        if (node == value) == key.endswith("!"):
            return False
    return True


def _fits(labels: dict[str, str], requirement: str) -> bool:
    listed = re.fullmatch(r"(\S+) +(in|notin) +\((.*)\)", requirement)
    if listed:
        values = [value.strip() for value in listed[3].split(",")]
        return (labels.get(listed[1]) in values) == (listed[2] == "in")
    if requirement.startswith("!"):
        return requirement[1:] not in labels
    key, operator, value = re.fullmatch(r"([^=!]+)(==|!=|=)?(.*)", requirement).groups()  # type: ignore[union-attr]
    if not operator:
        return key in labels
    return (labels.get(key) == value) == (operator != "!=")


def merge_patch(target: t.Any, patch: t.Any) -> t.Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


Path = tuple[str, ...]

_UNOWNED: frozenset[Path] = frozenset(
    {("apiVersion",), ("kind",), ("status",)}
    | {("metadata", name) for name in ("name", "namespace", "managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")}
)


def leaves(obj: t.Any, prefix: Path = ()) -> dict[Path, t.Any]:
    """Fields as server-side apply owns them, with every list atomic."""
    found: dict[Path, t.Any] = {}
    for key, value in obj.items():
        path = (*prefix, key)
        if path in _UNOWNED:
            continue
        if isinstance(value, dict) and value:
            found.update(leaves(value, path))
        else:
            found[path] = value
    return found


def fields_of(paths: t.Iterable[Path]) -> Object:
    """As metadata.managedFields holds them."""
    fields: Object = {}
    for path in sorted(paths):
        node = fields
        for step in path:
            node = node.setdefault(f"f:{step}", {})
    return fields


def paths_of(fields: Object, prefix: Path = ()) -> t.Iterator[Path]:
    for key, below in fields.items():
        path = (*prefix, key.removeprefix("f:"))
        if below:
            yield from paths_of(below, path)
        else:
            yield path


def remove_leaf(obj: Object, path: Path) -> None:
    *parents, last = path
    node: t.Any = obj
    for step in parents:
        node = node.get(step) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)


def _content(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "uid", "creationTimestamp", "generation")}
    return {**obj, "metadata": metadata}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *arguments: t.Any) -> None:
        self.sockets: set[t.Any] = set()
        super().__init__(*arguments)

    def cut_connections(self) -> None:
        import contextlib
        import socket

        for connection in list(self.sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Connections that end abruptly are what tests are about."""


def _handler_for(api: FakeApi) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            api.connections += 1
            t.cast("_Server", self.server).sockets.add(self.connection)

        def finish(self) -> None:
            t.cast("_Server", self.server).sockets.discard(self.connection)
            super().finish()

        def log_message(self, *_unused: t.Any) -> None:
            pass

        def _serve(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length) if length else b""
            method = "WATCH" if query.get("watch") == "true" else self.command
            api.requests.append((method, self.path))
            api.headers.append(dict(self.headers))
            if api.before is not None:
                api.before(method, self.path)
            fault = next((fault for fault in api.faults if fault.matches(method, self.path)), None)
            if fault is not None:
                fault.times -= 1
                if fault.delay:
                    time.sleep(fault.delay)
                if fault.drop:
                    self.close_connection = True
                    return
                if fault.status:
                    failure = ApiFailure(fault.status, fault.reason, fault.message)
                    self._send(fault.status, failure.body, fault.retry_after)
                    return
            try:
                if api.token is not None and self.headers.get("Authorization") != f"Bearer {api.token}":
                    raise ApiFailure(401, "Unauthorized", "Unauthorized")
                if method == "WATCH":
                    self._watch(url.path, query, fault)
                    return
                exec_path = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/exec", unquote(url.path))
                if exec_path is not None:
                    self._exec(exec_path[1], exec_path[2], parse_qsl(url.query, keep_blank_values=True))
                    return
                if self.command == "GET" and url.path.endswith("/log"):
                    self._log(url.path, query, fault)
                    return
                body = json.loads(raw) if raw else None
                content_type = self.headers.get("Content-Type") or ""
                status, answer = api.answer(method, url.path, query, body, content_type, self.headers.get("Accept") or "")
            except ApiFailure as failure:
                status, answer = failure.status, failure.body
            if fault is not None and fault.lose_answer:
                self.close_connection = True
                return
            self._send(status, answer)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        def _send(self, status: int, answer: t.Any, retry_after: int | None = None) -> None:
            is_text = isinstance(answer, str)
            data = answer.encode() if is_text else json.dumps(answer).encode()
            self.send_response_only(status)
            self.send_header("Date", email.utils.formatdate(usegmt=True))
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(data)))
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            self.wfile.write(data)

        def _log(self, path: str, query: dict[str, str], fault: Fault | None) -> None:
            lines = api.read_log(path, query)
            line = next(lines, b"")
            self.send_response_only(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if api.on_watch is not None and query.get("follow") == "true":
                api.on_watch(path)
            sent = 0
            while line != b"":
                if fault is not None and fault.cut_after == sent:
                    self.close_connection = True
                    return
                if fault is not None and fault.end_after == sent:
                    break
                if line is not None:
                    self._chunk_of(line)
                    sent += 1
                line = next(lines, b"")
            self.wfile.write(b"0\r\n\r\n")

        def _watch(self, path: str, query: dict[str, str], fault: Fault | None) -> None:
            events = api.watch(path, query)
            first = next(events, None)
            self.send_response_only(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if api.on_watch is not None:
                api.on_watch(path)
            sent = 0
            event: Object | None = first
            while True:
                if fault is not None and fault.cut_after == sent:
                    self.close_connection = True
                    return
                if fault is not None and fault.gone_after == sent:
                    self._chunk({"type": "ERROR", "object": ApiFailure(410, "Expired", "too old resource version").body})
                    break
                if event is not None:
                    self._chunk(event)
                    sent += 1
                try:
                    event = next(events)
                except StopIteration:
                    break
            self.wfile.write(b"0\r\n\r\n")

        def _exec(self, namespace: str, pod: str, query: list[tuple[str, str]]) -> None:
            options = dict(query)
            container, running = api.container_for(namespace, pod, options.get("container"))
            if self.headers.get("Upgrade") != "websocket":
                raise ApiFailure(400, "BadRequest", "Upgrade request required")
            self.close_connection = True
            offered = [protocol.strip() for protocol in (self.headers.get("Sec-WebSocket-Protocol") or "").split(",")]
            protocol = next((protocol for protocol in offered if protocol in api.exec_protocols), None)
            if protocol is None:
                self.send_response_only(403)
                self.end_headers()
                return
            self.send_response_only(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", fake_exec.accept_key(self.headers["Sec-WebSocket-Key"]))
            self.send_header("Sec-WebSocket-Protocol", protocol)
            self.end_headers()
            argv = [value for key, value in query if key == "command"]
            session = fake_exec.Session(fake_exec.Wire(self.rfile.read, self.wfile.write), argv, container, protocol, options.get("stdin") == "true")
            session.write(fake_exec.STDOUT, b"")
            if running:
                api.run_command(session)
            else:
                session.end(fake_exec.internal_error(f'unable to upgrade connection: container not found ("{container}")'))

        def _chunk(self, event: Object) -> None:
            self._chunk_of(json.dumps(event).encode() + b"\n")

        def _chunk_of(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    return Handler
