"""Makes kubernetes.json from the JSON schemas that the package kubernetes-validate ships (see README.md here).

python tests/data/kubernetes/make_schemas.py FOLDER_OF_THE_STRICT_SCHEMAS
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOTS = (
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.core.v1.EnvFromSource",
    "io.k8s.api.core.v1.Namespace",
    "io.k8s.api.core.v1.PodTemplateSpec",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.ServiceAccount",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.rbac.v1.Role",
    "io.k8s.api.rbac.v1.RoleBinding",
)


def main(folder: Path) -> None:
    """Keep what the roots lead to, without descriptions."""
    found: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kept: dict[str, Any] = {}
    todo = list(ROOTS)
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = _plain(found[name])
            todo += _names(kept[name])
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    (Path(__file__).parent / "kubernetes.json").write_text('{"$defs": {\n' + lines + "\n}}\n")


def _plain(node: Any, *, inside_properties: bool = False) -> Any:
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: "#/$defs/" + value.rsplit("/", 1)[-1]
        if key == "$ref"
        else _plain(value, inside_properties=key == "properties" and not inside_properties)
        for key, value in node.items()
        if inside_properties or (key != "description" and not key.startswith("x-"))
    }


def _names(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for each in node for name in _names(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].rsplit("/", 1)[-1]] if isinstance(node.get("$ref"), str) else []
    return own + [name for value in node.values() for name in _names(value)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
