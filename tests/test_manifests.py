"""The cluster's door: manifests and cluster file are valid, pin what they run, and give no more rights than needed."""

import functools
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from pipelines.serve import Options

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS, POLICIES, SCHEMAS = (
    ROOT / "docs" / "kubernetes",
    ROOT / "docs" / "aws",
    ROOT / "tests" / "data" / "kubernetes",
)
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+:(?!latest)[\w.-]+@sha256:[0-9a-f]{64}")
READ, WRITE = {"s3:GetObject", "s3:ListBucket"}, {"s3:PutObject", "s3:AbortMultipartUpload"}
KINDS = {
    "CronJob": "batch.v1", "Namespace": "core.v1", "NetworkPolicy": "networking.v1", "Role": "rbac.v1",
    "RoleBinding": "rbac.v1", "ServiceAccount": "core.v1",
}  # fmt: skip
RAY = {"RayJob": "rayjob.json", "RayService": "rayservice.json"}


def manifests():
    """[(file, manifest)]"""
    return [
        (path.name, one) for path in sorted(MANIFESTS.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())
    ]


def of_kind(kind):
    return {
        one["metadata"].get("name") or one["metadata"]["generateName"]: one
        for _, one in manifests()
        if one["kind"] == kind
    }


@functools.cache
def registry():
    contents = [(name, json.loads((SCHEMAS / name).read_text())) for name in ("kubernetes.json", *RAY.values())]
    return Registry().with_resources(
        [(name, Resource.from_contents(content, default_specification=DRAFT202012)) for name, content in contents]
    )


def check(manifest):
    kind = manifest["kind"]
    where = RAY.get(kind) or f"kubernetes.json#/$defs/io.k8s.api.{KINDS[kind]}.{kind}"
    jsonschema.Draft202012Validator({"$ref": where}, registry=registry()).validate(manifest)


def clusters():
    """{name of a RayJob, or of a RayService with a hyphen: its cluster}"""
    jobs = {name: one["spec"]["rayClusterSpec"] for name, one in of_kind("RayJob").items()}
    return jobs | {f"{name}-": one["spec"]["rayClusterConfig"] for name, one in of_kind("RayService").items()}


def pods():
    """[(what it is, pod template)] of every pod that the manifests make."""
    found = [(name, one["spec"]["jobTemplate"]["spec"]["template"]) for name, one in of_kind("CronJob").items()]
    found += [(f"{name}submitter", one["spec"]["submitterPodTemplate"]) for name, one in of_kind("RayJob").items()]
    for name, cluster in clusters().items():
        found.append((f"{name}head", cluster["headGroupSpec"]["template"]))
        found += [(name + group["groupName"], group["template"]) for group in cluster["workerGroupSpecs"]]
    return found


PODS = [pytest.param(pod, id=name) for name, pod in pods()]


@pytest.mark.parametrize(
    "manifest", [pytest.param(one, id=f"{name}-{one['kind']}-{i}") for i, (name, one) in enumerate(manifests())]
)
def test_a_manifest_is_valid(manifest):
    check(manifest)


@pytest.mark.parametrize(
    ("kind", "keys", "wrong"),
    [
        ("RayJob", ["spec"], {"entrypiont": "x"}),
        ("RayJob", ["spec", "rayClusterSpec", "authOptions"], {"mode": "maybe"}),
        ("RayJob", ["spec", "rayClusterSpec", "headGroupSpec", "template", "spec"], {"containers": [{"name": 3}]}),
        ("RayService", ["spec"], {"serveConfig": "x"}),
        ("RayService", ["spec", "rayClusterConfig"], {"rayversion": "2"}),
        ("CronJob", ["spec"], {"concurencyPolicy": "Forbid"}),
        ("Role", ["rules", 0], {"verb": ["create"]}),
        ("NetworkPolicy", ["spec"], {"podSelector": 3}),
    ],
)
def test_the_schemas_know_what_is_wrong(kind, keys, wrong):
    manifest = next(iter(of_kind(kind).values()))
    inner = manifest
    for key in keys:
        inner = inner[key]
    inner.update(wrong)
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_no_more_rights_than_it_needs(pod):
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for word in ("hostNetwork", "hostPID", "hostIPC"):
        assert word not in spec
    assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        assert PINNED.fullmatch(container["image"]), container["image"]
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "runAsUser", "runAsGroup", "procMount"} & set(context)
        assert not any("hostPort" in port for port in container.get("ports", ()))
        secret = re.compile("KEY|SECRET|TOKEN|PASSW")
        assert not [one for one in container.get("env", ()) if secret.search(one["name"]) and "value" in one]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_only_the_head_and_the_nightly_job_have_a_token_of_the_api_server():
    asking = {name for name, pod in pods() if pod["spec"].get("automountServiceAccountToken") is not False}
    assert asking == {"qasir-reindex", "qasir-encode-head", "qasir-reindex-head", "qasir-head"}
    labelled = {name for name, pod in pods() if "qasir/asks-api-server" in pod["metadata"]["labels"]}
    assert labelled == asking
    accounts = of_kind("ServiceAccount")
    for name, pod in pods():
        account = pod["spec"].get("serviceAccountName")
        assert account in accounts or name.endswith("submitter"), name
        assert (account == "qasir-worker") == name.endswith(("decoder", "encoder"))
    roles = {
        name: account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].split("/")[-1]
        for name, account in accounts.items()
        if "annotations" in account["metadata"]
    }
    assert roles == {"qasir-worker": "qasir-worker", "qasir-head": "qasir-driver", "qasir-page": "qasir-reader"}
    for cluster in clusters().values():
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "runs no tasks"
    assert "annotations" not in accounts["qasir-reindex"]["metadata"], "the nightly job has no rights in the cloud"


def test_the_nightly_job_may_create_ray_jobs_and_nothing_else():
    (role,) = of_kind("Role").values()
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}]
    (binding,) = of_kind("RoleBinding").values()
    assert [subject["name"] for subject in binding["subjects"]] == ["qasir-reindex"]
    (cron,) = of_kind("CronJob").values()
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    (namespace,) = of_kind("Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("cluster", [pytest.param(cluster, id=name) for name, cluster in clusters().items()])
def test_a_cluster_authenticates_and_has_no_door_of_its_own(cluster):
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert cluster["rayVersion"] == pinned
    head = cluster["headGroupSpec"]
    assert (head["serviceType"], head["enableIngress"]) == ("ClusterIP", False)


@pytest.mark.parametrize("job", of_kind("RayJob").values())
def test_a_ray_job_has_time_for_its_last_commit(job):
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    waits = {one["name"]: one["value"] for one in container["env"]}["RAY_JOB_STOP_WAIT_TIME_S"]
    assert 30 <= float(waits) < head["template"]["spec"]["terminationGracePeriodSeconds"]
    script = job["spec"]["entrypoint"].split()[1]
    assert (ROOT / script.removeprefix("/home/ray/qasir/")).is_file()


def test_the_page_reads_only_and_asks_for_a_token():
    (service,) = of_kind("RayService").values()
    assert set(actions("reader")) == READ
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    options = Options.model_validate(application.args)
    assert application.import_path == "pipelines.serve:app"
    assert options.token is None, "Serve shows its applications' arguments"
    assert options.hosts == ("videos.example",)
    (workers,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert workers["maxReplicas"] >= workers["minReplicas"] >= options.min_replicas
    (container,) = workers["template"]["spec"]["containers"]
    assert container["env"] == [
        {"name": "QASIR_TOKEN", "valueFrom": {"secretKeyRef": {"name": "qasir-page", "key": "token"}}}
    ]
    cpus = float(container["resources"]["limits"]["cpu"])
    assert cpus >= options.cpus + 1, "a replica, and what encodes texts"
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    (port,) = container["ports"]
    assert port == {"name": "serve", "containerPort": config.http_options.port}
    accounts = {name: pod["spec"]["serviceAccountName"] for name, pod in pods() if name in ("qasir-page", "qasir-head")}
    assert accounts["qasir-page"] == "qasir-page"
    assert accounts["qasir-head"] == "qasir-page-head"
    assert "annotations" not in of_kind("ServiceAccount")["qasir-page-head"]["metadata"], "no rights in the cloud"


def test_rays_ports_are_for_the_clusters_own_pods():
    policies = of_kind("NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    inward = [rule for policy in policies.values() for rule in policy["spec"].get("ingress", ())]
    assert {"from": [{"podSelector": {"matchLabels": {"app": "qasir"}}}]} in inward
    others = [rule for rule in inward if "podSelector" not in rule["from"][0]]
    assert [[port["port"] for port in rule["ports"]] for rule in others] == [[8265], [8000]]
    assert policies["page"]["spec"]["podSelector"] == {"matchLabels": {"qasir/page": "true"}}
    outward = [rule for policy in policies.values() for rule in policy["spec"].get("egress", ())]
    blocks = [peer["ipBlock"] for rule in outward for peer in rule["to"] if "ipBlock" in peer]
    assert blocks
    assert all(block["except"] == ["169.254.0.0/16"] for block in blocks), "the metadata service is out of reach"


def statements(name):
    return json.loads((POLICIES / f"{name}-policy.json").read_text())["Statement"]


def actions(name):
    """{action: resources} that a policy allows."""
    found: dict[str, set[str]] = {}
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            found.setdefault(action, set()).update(statement["Resource"])
    return found


def test_nodes_that_decode_read_videos_and_write_the_index_and_nothing_else():
    allowed = actions("worker")
    assert set(allowed) == READ | WRITE
    assert all(resource.startswith("arn:aws:s3:::INDEX/") for action in WRITE for resource in allowed[action])
    assert all(
        resource != "*" and not resource.startswith("arn:aws:s3:::*")
        for all_of in allowed.values()
        for resource in all_of
    )
    assert set(actions("driver")) == READ | WRITE | {"s3:DeleteObject"}
    assert actions("driver")["s3:DeleteObject"] == {"arn:aws:s3:::INDEX/index/*"}
    assert actions("driver")["s3:GetObject"] == {"arn:aws:s3:::VIDEOS/videos/*", "arn:aws:s3:::INDEX/index/*"}
    for name in ("worker", "driver", "reader"):
        for statement in statements(name):
            assert ("Condition" in statement) == (statement["Action"] == ["s3:ListBucket"])
            for prefixes in statement.get("Condition", {}).get("StringLike", {}).values():
                assert prefixes
                assert not any(prefix in ("*", "") for prefix in prefixes)


def test_the_autoscaler_ends_and_tags_only_its_own_nodes():
    found = {statement["Sid"]: statement for statement in statements("autoscaler")}
    assert set(found) == {"SeeNodes", "StartNodes", "TagWhatItStarts", "TagOwnNodes", "EndOwnNodes", "MakeThemWorkers"}
    assert all(action.startswith("ec2:Describe") for action in found["SeeNodes"]["Action"])
    assert found["StartNodes"]["Action"] == ["ec2:RunInstances"]
    assert found["TagWhatItStarts"]["Action"] == ["ec2:CreateTags"]
    assert found["TagWhatItStarts"]["Condition"] == {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    own = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": "qasir"}}
    assert (found["TagOwnNodes"]["Action"], found["TagOwnNodes"]["Condition"]) == (["ec2:CreateTags"], own)
    assert set(found["EndOwnNodes"]["Action"]) == {"ec2:TerminateInstances", "ec2:StopInstances"}
    assert found["EndOwnNodes"]["Condition"] == own
    assert found["MakeThemWorkers"]["Action"] == ["iam:PassRole"]
    assert found["MakeThemWorkers"]["Resource"] == ["arn:aws:iam::ACCOUNT:role/qasir-worker"]


def test_the_cluster_file_keeps_credentials_from_what_decodes():
    config = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    validate_config(config)
    images = {name: value for name, value in config["docker"].items() if name.endswith("image") and value}
    assert images
    assert all(PINNED.fullmatch(image) for image in images.values())
    for name, options in config["docker"].items():
        if name.endswith("run_options"):
            assert not [one for one in options if "privileged" in one or "--user" in one or "cap-add" in one], name
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert node["IamInstanceProfile"] == {"Name": "qasir-head" if name == "head" else "qasir-worker"}
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(config["docker"]["worker_run_options"])
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in head
    assert "--dashboard-host=127.0.0.1" in head


def test_the_image_is_pinned_and_runs_as_nobody_special():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "FROM ${BASE}" in lines
    assert "ARG BASE=rayproject/ray:${RAY_VERSION}-py311-gpu" in lines
    assert "USER 1000:100" in lines
    assert not any("latest" in line or line.startswith("USER root") for line in lines)


def test_the_docs_refer_to_what_is_there():
    text = (ROOT / "docs" / "operations.md").read_text()
    for path in (*MANIFESTS.iterdir(), *POLICIES.iterdir()):
        assert f"{path.parent.name}/{path.name}" in text, path.name
