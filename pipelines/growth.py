"""What nodes an autoscaler may add to the cluster that this process has joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from pipelines.local_ray import is_here

_CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
"""Where `ray up` puts a cluster's file on its head, on which jobs run. Ray's own autoscaler tells no one else of it."""
UNTOLD: Mapping[str, float] = {"CPU": 256.0, "GPU": 8.0}
"""What a cluster is taken to grow to at most where nobody says, as KubeRay's autoscaler does not. It asks for no more
nodes than it may have, whatever is wanted of it."""


@dataclass(frozen=True)
class NodeGroup:
    """A kind of node: {resource: how much one has}, and how many there may be; None is any number."""

    resources: Mapping[str, float]
    most: int | None


def node_groups() -> list[NodeGroup]:
    """The kinds of nodes that may come, as far as anybody says."""
    if is_here():
        return []
    config = ray._private.state.state.get_cluster_config()  # there is no public one; Ray Data itself asks this way
    if config is not None and config.node_group_configs:
        return [
            NodeGroup(dict(group.resources), None if group.max_count == -1 else group.max_count)
            for group in config.node_group_configs
        ]
    path = Path(_CLUSTER_FILE).expanduser()
    return groups_of(yaml.safe_load(path.read_text())) if path.is_file() else []


def groups_of(cluster_file: Mapping[str, Any]) -> list[NodeGroup]:
    """The kinds of nodes beside the head of a file that `ray up` takes, no more than it lets there be together."""
    together = cluster_file.get("max_workers")
    groups = []
    for name, kind in cluster_file.get("available_node_types", {}).items():
        most = min(each for each in (kind.get("max_workers", together), together, 1 << 20) if each is not None)
        if name != cluster_file.get("head_node_type") and most > 0:
            groups.append(NodeGroup({k: float(v) for k, v in kind.get("resources", {}).items()}, most))
    return groups


def has_bare_head() -> bool:
    """Whether the cluster has a head on which no tasks run: as it is set up where nodes come for them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any("node:__internal_head__" in each and not each.get("CPU") for each in nodes)
