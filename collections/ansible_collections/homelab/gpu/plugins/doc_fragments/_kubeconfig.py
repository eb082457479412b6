# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations


class ModuleDocFragment:
    # module_utils/_spec.py: KUBECONFIG
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig file, or its content as a mapping.
      - An explicit O(kubeconfig), O(host), or O(in_cluster) decides alone. Environment variables count only for tasks that give none
        of the three.
      - Environment variable E(K8S_AUTH_KUBECONFIG). Without any of them, E(KUBECONFIG) and then C(~/.kube/config) are used. The service
        account of the pod that runs Ansible is never used silently, see O(in_cluster).
    type: raw
  context:
    description:
      - Context of the kubeconfig to use instead of its current one.
      - Environment variable E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - URL of the API server, for use without a kubeconfig, or instead of the one in it.
      - Environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token.
      - Environment variable E(K8S_AUTH_API_KEY).
    type: str
  validate_certs:
    description:
      - Whether to verify the API server's certificate. Without it the kubeconfig decides, and without a kubeconfig it is verified.
      - Environment variable E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the CA certificate that signed the API server's certificate.
      - Environment variable E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - Path of a client certificate, to be given together with O(client_key).
      - Environment variable E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the client certificate's key.
      - Environment variable E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  proxy:
    description:
      - URL of an HTTP proxy to reach the API server through.
      - Environment variable E(K8S_AUTH_PROXY).
    type: str
  in_cluster:
    description:
      - Use the service account of the pod this runs in. Excludes O(kubeconfig) and O(host).
    type: bool
    default: false
  cluster_uid:
    description:
      - The UID of the namespace C(kube-system) of the cluster that is meant.
      - If the API server that answers belongs to another cluster, the module fails before it changes anything.
      - M(homelab.gpu.kube_info) returns it.
    type: str
requirements:
  - urllib3 (Python package), and PyYAML for kubeconfig files
  - kubernetes (Python package) >= 31 for O(in_cluster), and for kubeconfigs that run a program for their credentials or name several files
notes:
  - Runs where it can reach the API server, usually with C(delegate_to=localhost). Unless O(kubeconfig) is a mapping, the file has to be there.
  - Where the Python that runs Ansible would run the module, on the controller and without C(become) and C(async), the work is done
    within Ansible's own process. That saves most of the time of a short task, and its result is the same.
  - All modules that talk to the cluster are in the action group C(homelab.gpu.gpu), so that C(module_defaults) can hold the connection options.
"""
