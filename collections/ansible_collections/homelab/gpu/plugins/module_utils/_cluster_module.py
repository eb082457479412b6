# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What all modules have in common that talk to a cluster: connection options, the guard for the right cluster, one way in which they
# end. A module declares itself as a ClusterModule. That runs on a host by main(), and on the controller, within Ansible's own
# process, by plugin_utils/_cluster_action.py.

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.errors import UnsupportedError

from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client, secrets_in
from ansible_collections.homelab.gpu.plugins.module_utils._errors import KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._spec import KUBECONFIG

if t.TYPE_CHECKING:
    from ansible.module_utils.common.arg_spec import ValidationResult

    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client

__all__ = ["Call", "ClusterModule", "problems"]


class Call:
    """One run of a module: what was asked, and what will be answered."""

    def __init__(self, params: dict[str, t.Any], *, check_mode: bool, environ: t.Mapping[str, str]) -> None:
        self.params = params
        self.check_mode = check_mode
        self.result: dict[str, t.Any] = {"changed": False}
        """Filled by the work; what stands in it when the work fails is part of the failure."""
        self.warnings: list[str] = []
        """What a user has to be told although nothing is wrong."""
        self.shown_params = params
        """The options as a result shows them."""
        self.secrets = set(secrets_in(params["kubeconfig"]))
        """What must not occur in any output."""
        self._environ = environ

    def client(self) -> Client:
        """A client for the cluster that the options name; nothing is sent yet, so C(cluster_uid) is not checked either."""
        settings = connection_settings(self.params, self._environ)
        if settings["api_key"]:
            self.secrets.add(settings["api_key"])
        return open_client(settings)

    def cluster(self) -> Client:
        """A client for the cluster that is meant; fails if another one answers."""
        client = self.client()
        client.require_cluster(self.params["cluster_uid"])
        return client


def problems(validation: ValidationResult, module_name: str) -> str:
    """All that is wrong with the options, and not only the first."""
    found = [
        f"Unsupported parameters for ({module_name}) module: {error.msg}" if isinstance(error, UnsupportedError) else str(error.msg)
        for error in validation.errors
    ]
    # An element that is no dictionary is also told of without the name of its option
    return "; ".join(text for text in found if not any(text != other and text in other for other in found))


class _Module(AnsibleModule):
    def fail_json(self, msg: str, **data: t.Any) -> None:
        # The constructor ends here if the options are wrong, and nobody knows yet what is secret in them
        data.setdefault("invocation", {})
        super().fail_json(msg=problems(self.validation_result, self._name) or msg, **data)


@dataclasses.dataclass(frozen=True)
class ClusterModule:
    """A module's options and its work."""

    work: t.Callable[[Call], None]
    """Raises KubeError if it fails."""
    options: t.Mapping[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    """Without those of the connection."""
    constraints: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    """mutually_exclusive, required_if, and so on, as AnsibleModule takes them."""

    @property
    def argument_spec(self) -> dict[str, dict[str, t.Any]]:
        return {**KUBECONFIG, **self.options}

    def run(self, call: Call) -> dict[str, t.Any]:
        try:
            self.work(call)
        except KubeError as error:
            return {**call.result, **error.data, "failed": True, "msg": str(error)}
        return call.result

    def main(self) -> None:
        module = _Module(
            argument_spec=self.argument_spec,
            supports_check_mode=True,
            # Keeps an inline kubeconfig, and Secrets among definitions, out of the system log
            no_log=True,
            **self.constraints,
        )
        call = Call(module.params, check_mode=module.check_mode, environ=os.environ)
        module.no_log_values.update(call.secrets)
        result = self.run(call)
        result.setdefault("invocation", {"module_args": call.shown_params})
        module.no_log_values.update(call.secrets)
        for warning in call.warnings:
            module.warn(warning)
        if result.pop("failed", False):
            module.fail_json(**result)
        module.exit_json(**result)
