#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the cluster says when a scenario has failed: nodes, pods, events, and everything about pods that do not run.
kubectl() { timeout 20 k3s kubectl "$@"; }
kubectl get nodes --output=wide
kubectl get pods --all-namespaces --output=wide
kubectl get events --all-namespaces --sort-by=.lastTimestamp | tail -n 60
kubectl describe nodes
kubectl get pods --all-namespaces --no-headers | awk '{split($3, ready, "/")} $4 != "Completed" && ($4 != "Running" || ready[1] != ready[2]) {print $1, $2}' |
  while read -r namespace pod; do
    kubectl describe pod --namespace="$namespace" "$pod"
    kubectl logs --namespace="$namespace" "$pod" --all-containers --tail=40
  done
uptime
