# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import ARCHITECTURES, LockError, select
from ansible_collections.homelab.gpu.plugins.module_utils._options import coerced
from ansible_collections.homelab.gpu.plugins.module_utils._preflight import AGENT_GROUP, SERVER_GROUP, Host, Site, check_all, report
from ansible_collections.homelab.gpu.plugins.module_utils._preflight_gpu import GPU_CHECKS, GPU_ROLES
from ansible_collections.homelab.gpu.plugins.plugin_utils._artifact_cache import read_lock
from ansible_collections.homelab.gpu.plugins.plugin_utils._kubeconfig import destination_problem

_ROLES = ("host_preflight", "k3s_artifacts", "k3s_server", "k3s_agent", *GPU_ROLES)
_PREFIXES = ("k3s_", "host_preflight_", "gpu_skus", *(f"{role}_" for role in GPU_ROLES))
_ROLES_DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "roles")


def _reason(result: Mapping[str, Any]) -> str:
    text = " ".join(str(result.get("msg") or result.get("module_stderr") or "no reason was given").split())
    return text.removeprefix("Task failed: ")[:300]


class ActionModule(ActionBase):
    """Gathers settings and facts of all hosts for the checks in module_utils/_preflight.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        _checked, arguments = self.validate_argument_spec(
            {"facts_variable": {"type": "str", "required": True}, "gpus_variable": {"type": "str"}, "server_variable": {"type": "str"}}
        )
        self._looked = arguments["facts_variable"]
        self._gpus_variable = arguments["gpus_variable"]
        self._server_variable = arguments["server_variable"]
        self._locks: dict[str, list[dict[str, Any]] | LockError] = {}
        self._load_roles()

        findings = check_all(self._site(), GPU_CHECKS)
        errors = [finding for finding in findings if finding.severity == "error"]
        result["findings"] = [vars(finding) for finding in findings]
        result["warnings"] = [f"{item.host}: [{item.check}] {item.fact}. Fix: {item.fix}." for item in findings if item.severity != "error"]
        if errors:
            result.update(failed=True, msg=report(findings))
        else:
            result["msg"] = f"no problem on {len(self._in_play)} hosts"
        return result

    def _load_roles(self) -> None:
        settings = self._load("host_preflight", "files", "site_settings.yml")
        self._specs = {"site": settings}
        self._defaults: dict[str, dict[str, Any]] = {}
        for role in _ROLES:
            self._specs[role] = self._load(role, "meta", "argument_specs.yml")["argument_specs"]["main"].get("options", {})
            self._defaults[role] = self._load(role, "defaults", "main.yml", trusted=True) or {}

    def _load(self, role: str, *path: str, trusted: bool = False) -> Any:
        return self._loader.load_from_file(os.path.join(_ROLES_DIRECTORY, role, *path), cache="none", trusted_as_template=trusted)

    def _site(self) -> Site:
        groups = self._vars["groups"]
        self._in_play = list(self._vars["ansible_play_hosts_all"])
        names = list(dict.fromkeys([*groups.get(SERVER_GROUP, []), *groups.get(AGENT_GROUP, []), *self._in_play]))
        hosts = [self._host(name) for name in names]
        site = Site(hosts=hosts, specs=self._specs, prefixes=_PREFIXES, absent_server=self._absent_server())
        for host in site.servers:
            path = host.option("kubeconfig")
            if isinstance(path, str) and path:
                problem = destination_problem(os.path.expanduser(path))
                if problem and problem not in site.kubeconfig_problems:
                    site.kubeconfig_problems.append(problem)
        return site

    def _host(self, name: str) -> Host:
        raw = dict(self._vars["hostvars"].raw_get(name))
        known = {option for options in self._specs.values() for option in options}
        ours = [variable for variable in raw if variable.startswith(_PREFIXES) and variable not in (self._looked, self._gpus_variable)]
        host = Host(name=name, groups=list(raw.get("group_names", [])), in_play=name in self._in_play)
        unresolved: dict[str, str] = {}
        context = {**raw, "groups": self._vars["groups"], "hostvars": self._vars["hostvars"]}
        host.variables = {variable: self._value(context, variable, unresolved) if variable in known else None for variable in ours}
        gpus = self._value(context, self._gpus_variable, {}) if self._gpus_variable in context else None
        if host.in_play and isinstance(gpus, Mapping) and "gpus" in gpus:
            host.gpus = gpus
        options = {}
        for role in ("host_preflight", "k3s_artifacts", host.role, *(GPU_ROLES if host.is_gpu else ())):
            scope = {**self._defaults[role], "role_path": os.path.join(_ROLES_DIRECTORY, role), **context}
            options[role] = {option: coerced(self._value(scope, option, unresolved), spec) for option, spec in self._specs[role].items() if option in scope}
        host.options = options
        # What a default cannot make of a broken or missing setting is told by the check of that setting.
        host.unresolved = {variable: reason for variable, reason in unresolved.items() if variable in host.variables}

        looked = self._value(context, self._looked, {}) if self._looked in context else None
        if host.in_play and isinstance(looked, Mapping):
            host.facts, host.clock = looked.get("host"), looked.get("clock")
            if host.facts is None:
                host.unreachable = _reason(looked)
        if host.in_play:
            self._judge_lock(host)
            self._judge_gpu_locks(host)
        return host

    def _value(self, variables: Mapping[str, Any], name: str, unresolved: dict[str, str]) -> Any:
        try:
            return self._templar.copy_with_new_env(available_variables=variables).template(variables[name])
        except AnsibleError as error:
            unresolved[name] = " ".join(str(error).split())[:200]
            return None

    def _lock(self, path: str) -> list[dict[str, Any]] | LockError:
        if path not in self._locks:
            try:
                self._locks[path] = read_lock(os.path.expanduser(path))
            except LockError as error:
                self._locks[path] = error
        return self._locks[path]

    def _judge_lock(self, host: Host) -> None:
        options = host.options["k3s_artifacts"]
        path, version, images = (options.get(f"k3s_artifacts_{name}") for name in ("lock_file", "version", "images"))
        if not isinstance(path, str) or not isinstance(version, str) or not isinstance(images, list):
            return
        lock = self._lock(path)
        if isinstance(lock, LockError):
            host.lock_problems = lock.problems
            return
        arch = (host.facts or {}).get("architecture")
        if arch in ARCHITECTURES:
            _chosen, host.lock_missing = select(lock, version=version, arch=arch, images=images)

    def _judge_gpu_locks(self, host: Host) -> None:
        facts = host.facts or {}
        if not host.is_gpu or facts.get("architecture") not in ARCHITECTURES:
            return
        toolkit, plugin = (host.options[role] for role in ("nvidia_container_toolkit", "nvidia_device_plugin"))
        archive = plugin.get("nvidia_device_plugin_image_archive")
        wanted: dict[str, tuple[Any, dict[str, Any]]] = {}
        if toolkit.get("nvidia_container_toolkit_source") == "artifacts":
            packages: dict[str, Any] = {
                "version": toolkit.get("nvidia_container_toolkit_version"),
                "images": [],
                "packages": toolkit.get("nvidia_container_toolkit_packages"),
                "package_format": "deb" if facts.get("package_manager") == "apt" else "rpm",
            }
            wanted["nvidia_container_toolkit_lock_file"] = (toolkit.get("nvidia_container_toolkit_lock_file"), packages)
        if archive:
            wanted["nvidia_device_plugin_lock_file"] = (plugin.get("nvidia_device_plugin_lock_file"), {"version": "", "images": [archive]})
        problems, missing = {}, {}
        for option, (path, want) in wanted.items():
            if not isinstance(path, str) or not path or not isinstance(want["version"], str) or not isinstance(want.get("packages", []), list):
                continue
            lock = self._lock(path)
            if isinstance(lock, LockError):
                problems[option] = lock.problems
            else:
                _chosen, missing[option] = select(lock, arch=facts["architecture"], binary="", **want)
        host.gpu_lock_problems, host.gpu_lock_missing = problems, missing

    def _absent_server(self) -> str | None:
        servers = self._vars["groups"].get(SERVER_GROUP, [])
        if not servers or set(servers) & set(self._in_play) or not self._server_variable:
            return None
        # The first host of the run was told to ask.
        answer = self._vars["hostvars"].raw_get(self._in_play[0]).get(self._server_variable)
        if not isinstance(answer, Mapping):
            return "it was not asked"
        if answer.get("available"):
            return None
        return _reason(answer)
