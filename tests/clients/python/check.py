"""What a program with the official Python client does, against a running cluster: KUBECONFIG says which.

    check.py KINDS

KINDS is a manifest of one object of each kind. Prints what held, line by line; the first thing that does not ends it.
"""

import datetime
import inspect
import logging
import pathlib
import sys
import tempfile
import threading
import time

import yaml
from kubernetes import client, config, dynamic, informer, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.stream import stream

KINDS = sys.argv[1]
PATIENCE = 30


def ok(what):
    print(f"ok: {what}", flush=True)


def same(found, wanted, what):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def refused(code, what, call):
    try:
        call()
    except ApiException as error:
        same(error.status, code, what)
        return yaml.safe_load(error.body)
    sys.exit(f"{what}: was not refused")


def typed_kinds():
    """Every kind is made, and read by its model, which raises where a required field is missing."""
    with open(KINDS, encoding="utf-8") as file:
        wanted = [item for item in yaml.safe_load_all(file) if item]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=wanted)
    served = {"v1"}
    for group in client.ApisApi().get_api_versions().groups:
        served.update(version.group_version for version in group.versions)
    seen, lists = {}, 0
    for name, api in inspect.getmembers(client, inspect.isclass):
        if not name.endswith("Api") or name == "CustomObjectsApi":
            continue
        # Events of the older kind have no eventTime and a node's CSINode has no drivers before the first one comes, which
        # these models do not believe, of any server.
        strict = client.Configuration.get_default_copy()
        strict.client_side_validation = name not in ("EventsV1Api", "StorageV1Api")
        for method, call in inspect.getmembers(api(client.ApiClient(strict)), inspect.ismethod):
            if not method.startswith("list_") or method.endswith("_with_http_info"):
                continue
            needs = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
            try:
                listed = call(*["default" for _ in needs])
            except ApiException as error:
                # A version of beta or alpha that v1.36 does not serve by default.
                if error.status == 404 and ("alpha" in name.lower() or "beta" in name.lower()):
                    continue
                sys.exit(f"{name}.{method}: {error}")
            lists += 1
            for item in getattr(listed, "items", None) or []:
                seen.setdefault(type(item).__name__, set()).add(item.metadata.name)
    for item in wanted:
        version = item["apiVersion"]
        same(version in served, True, f"{version} in discovery")
        kind, name = item["kind"], item["metadata"]["name"]
        # Where two groups have a kind of one name, the model's name has the group's, too.
        group = {("v1", "Event"): "Core", ("events.k8s.io/v1", "Event"): "Events", ("resource.k8s.io/v1", "ResourceClaim"): "Resource"}
        model = group.get((version, kind), "") + version.split("/")[-1].upper() + kind
        same(name in seen.get(model, ()), True, f"{name} among the {model} of {sorted(seen)}")
    ok(f"{lists} typed lists, {len(wanted)} kinds made and read")


def crud(core):
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="made-"), data={"a": "1"})
    made = core.create_namespaced_config_map("default", body)
    name = made.metadata.name
    same(made.metadata.creation_timestamp.tzinfo is not None, True, "a time with its zone")
    stale = core.read_namespaced_config_map(name, "default")
    made.data["a"] = "2"
    made = core.replace_namespaced_config_map(name, "default", made)
    stale.data["a"] = "3"
    answer = refused(409, "a stale update", lambda: core.replace_namespaced_config_map(name, "default", stale))
    same(answer["reason"], "Conflict", "a stale update's reason")
    found = core.list_namespaced_config_map("default", field_selector=f"metadata.name={name}")
    same([item.data for item in found.items], [{"a": "2"}], "the one that was asked for")
    gone = core.delete_namespaced_config_map(name, "default", propagation_policy="Background")
    same(gone.status, "Success", "a deletion's answer")
    refused(404, "what is gone", lambda: core.read_namespaced_config_map(name, "default"))
    for number in range(5):
        core.create_namespaced_config_map(
            "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{number}", labels={"paged": "y"}))
        )
    pages, token = [], None
    while token != "":
        page = core.list_namespaced_config_map("default", label_selector="paged=y", limit=2, _continue=token or "")
        pages.append([item.metadata.name for item in page.items])
        token = page.metadata._continue or ""
    same([len(page) for page in pages], [2, 2, 1], "pages")
    core.delete_collection_namespaced_config_map("default", label_selector="paged=y")
    same(core.list_namespaced_config_map("default", label_selector="paged=y").items, [], "a deleted collection")
    ok("create, read, replace, delete, pages, delete of a collection")


def patches(core, apps):
    core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="patched"), data={"a": "1"}))
    data = lambda: core.read_namespaced_config_map("patched", "default").data
    core.patch_namespaced_config_map("patched", "default", {"data": {"b": "2"}})
    same(data(), {"a": "1", "b": "2"}, "a strategic merge patch")
    core.patch_namespaced_config_map("patched", "default", {"data": {"a": None}}, _content_type="application/merge-patch+json")
    same(data(), {"b": "2"}, "a merge patch")
    core.patch_namespaced_config_map("patched", "default", [{"op": "add", "path": "/data/c", "value": "3"}], _content_type="application/json-patch+json")
    same(data(), {"b": "2", "c": "3"}, "a JSON patch")
    failed = refused(422, "a JSON patch's test", lambda: core.patch_namespaced_config_map(
        "patched", "default", [{"op": "test", "path": "/data/c", "value": "4"}], _content_type="application/json-patch+json"))
    same(failed["reason"], "Invalid", "the reason of a failed test")
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patched"}, "data": {"b": "mine"}}
    apply = lambda **options: core.patch_namespaced_config_map(
        "patched", "default", applied, field_manager="checker", _content_type="application/apply-patch+yaml", **options)
    clash = refused(409, "somebody else's field", apply)
    same(clash["details"]["causes"][0]["field"], ".data.b", "the contested field")
    apply(force=True)
    same(data(), {"b": "mine", "c": "3"}, "an applied configuration")
    owners = {entry.manager: entry.fields_v1 for entry in core.read_namespaced_config_map("patched", "default").metadata.managed_fields}
    same(owners["checker"], {"f:data": {"f:b": {}}}, "what the applier owns")

    scale = apps.read_namespaced_deployment_scale("sample", "default")
    scale.spec.replicas = 0
    # None is left out, as Go leaves it out.
    same(apps.replace_namespaced_deployment_scale("sample", "default", scale).spec.replicas, None, "a scale")
    status = apps.patch_namespaced_deployment_status("sample", "default", {"status": {"conditions": [
        {"type": "Sampled", "status": "True", "reason": "x", "message": "y"}]}})
    same("Sampled" in [condition.type for condition in status.status.conditions], True, "a condition merged by its type")
    ok("patches of every type, apply and its conflicts, scale, status")


def watches(core):
    start = core.list_namespaced_secret("default").metadata.resource_version
    for number in (1, 2):
        core.create_namespaced_secret("default", client.V1Secret(metadata=client.V1ObjectMeta(name="watched"), string_data={"n": str(number)}))
        core.delete_namespaced_secret("watched", "default")
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_secret, "default", resource_version=start, timeout_seconds=PATIENCE):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 4:
            break
    same(seen, [("ADDED", "watched"), ("DELETED", "watched")] * 2, "a watch from a revision")
    ended = list(watch.Watch().stream(core.list_namespaced_secret, "kube-public", timeout_seconds=1))
    same(ended, [], "a watch that ends by itself")
    ok("watches: from a revision, and ended in time")


def informers(core):
    arrived = threading.Condition()
    seen = []

    def note(kind):
        def handler(item):
            with arrived:
                seen.append((kind, item.metadata.name))
                arrived.notify_all()
        return handler

    shared = informer.SharedInformer(core.list_namespaced_config_map, namespace="default", label_selector="informed=y")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        shared.add_event_handler(kind, note(kind))
    labelled = client.V1ObjectMeta(name="informed", labels={"informed": "y"})
    core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=labelled))
    shared.start()

    def until(wanted):
        with arrived:
            same(arrived.wait_for(lambda: seen == wanted, PATIENCE), True, f"{wanted} of {seen}")

    events = [("ADDED", "informed")]
    until(events)
    core.patch_namespaced_config_map("informed", "default", {"data": {"a": "1"}})
    events.append(("MODIFIED", "informed"))
    until(events)
    same([item.metadata.name for item in shared.cache.list()], ["informed"], "an informer's store")
    # Out of the selector is gone.
    core.patch_namespaced_config_map("informed", "default", {"metadata": {"labels": {"informed": None}}})
    events.append(("DELETED", "informed"))
    until(events)
    # The client cuts the connection and is surprised by that.
    logging.getLogger("kubernetes.informer").setLevel(logging.CRITICAL)
    shared.stop()
    ok("an informer")


WIDGETS = yaml.safe_load("""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.check.example}
spec:
  group: check.example
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, required: [size], properties: {size: {type: integer, minimum: 0}, color: {type: string, default: red}}}
          status: {type: object, properties: {size: {type: integer}}}
""")


def custom(api_client):
    definitions = client.ApiextensionsV1Api()
    definitions.create_custom_resource_definition(WIDGETS)
    name = WIDGETS["metadata"]["name"]
    for event in watch.Watch().stream(definitions.list_custom_resource_definition, field_selector=f"metadata.name={name}", timeout_seconds=PATIENCE):
        conditions = event["object"].status and event["object"].status.conditions or []
        if any(condition.type == "Established" and condition.status == "True" for condition in conditions):
            break
    widgets = client.CustomObjectsApi()
    place = ("check.example", "v1", "default", "widgets")
    widget = {"apiVersion": "check.example/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 2}}
    made = widgets.create_namespaced_custom_object(*place, widget)
    same(made["spec"], {"size": 2, "color": "red"}, "a default of the schema")
    bad = dict(widget, metadata={"name": "two"}, spec={"size": -1})
    answer = refused(422, "a value out of bounds", lambda: widgets.create_namespaced_custom_object(*place, bad))
    same(answer["details"]["causes"][0]["field"], "spec.size", "the field that is out of bounds")
    widgets.patch_namespaced_custom_object_status(*place, "one", {"status": {"size": 2}})
    same(widgets.get_namespaced_custom_object_scale(*place, "one")["status"]["replicas"], 2, "a custom scale")
    same(widgets.list_cluster_custom_object("check.example", "v1", "widgets")["items"][0]["status"], {"size": 2}, "a list across namespaces")

    finder = dynamic.DynamicClient(api_client)
    resource = finder.resources.get(api_version="check.example/v1", kind="Widget")
    same((resource.name, resource.namespaced, "scale" in resource.subresources), ("widgets", True, True), "what discovery says")
    same(finder.resources.get(short_names=["wd"]).kind if hasattr(resource, "short_names") else "Widget", "Widget", "a short name")
    applied = resource.server_side_apply(
        body=dict(widget, spec={"size": 5}), name="one", namespace="default", field_manager="dynamic", force_conflicts=True)
    same(applied.spec.size, 5, "a dynamic apply")
    patched = resource.patch(body={"spec": {"color": "blue"}}, name="one", namespace="default", content_type="application/merge-patch+json")
    same(patched.spec.color, "blue", "a dynamic patch")
    stale = dict(widget, metadata={"name": "one", "resourceVersion": made["metadata"]["resourceVersion"]})
    try:
        resource.replace(body=stale, namespace="default")
        sys.exit("a stale dynamic replace was not refused")
    except ConflictError:
        pass
    seen = [event["type"] for event in resource.watch(namespace="default", timeout=1)]
    same(seen, ["ADDED"], "a dynamic watch")
    resource.delete(name="one", namespace="default")
    try:
        resource.get(name="one", namespace="default")
        sys.exit("a deleted widget is still there")
    except NotFoundError:
        pass
    definitions.delete_custom_resource_definition(name)
    ok("a custom kind, its objects, status, scale, and the dynamic client")


def leases():
    api = client.CoordinationV1Api()
    now = lambda: datetime.datetime.now(datetime.timezone.utc)
    spec = client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15, acquire_time=now(), renew_time=now(), lease_transitions=0)
    lease = api.create_namespaced_lease("default", client.V1Lease(metadata=client.V1ObjectMeta(name="elected"), spec=spec))
    other = api.read_namespaced_lease("elected", "default")
    lease.spec.renew_time = now()
    renewed = api.replace_namespaced_lease("elected", "default", lease)
    same(renewed.spec.renew_time, lease.spec.renew_time, "microseconds of a lease")
    other.spec.holder_identity = "b"
    refused(409, "a lease that was renewed meanwhile", lambda: api.replace_namespaced_lease("elected", "default", other))

    leading = threading.Event()
    lock = ConfigMapLock("elected-by-map", "default", "checker")
    election = electionconfig.Config(lock, 5, 4, 1, onstarted_leading=leading.set, onstopped_leading=None)
    threading.Thread(target=leaderelection.LeaderElection(election).run, daemon=True).start()
    same(leading.wait(PATIENCE), True, "an elected leader")
    ok("leases and the client's own leader election")


def in_cluster(core):
    """As a pod is: an address in the environment, a token and the authority's certificate in files."""
    token = core.create_namespaced_service_account_token(
        "sample", "default", client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=None, expiration_seconds=600))
        if hasattr(client, "AuthenticationV1TokenRequest") else {"spec": {"expirationSeconds": 600}})
    access = client.RbacAuthorizationV1Api()
    access.create_namespaced_role_binding("default", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "in-cluster"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "sample", "namespace": "default"}]})
    service = core.read_namespaced_service("kubernetes", "default")
    with tempfile.TemporaryDirectory() as folder:
        files = pathlib.Path(folder)
        (files / "token").write_text(token.status.token, encoding="utf-8")
        authority = core.read_namespaced_config_map("kube-root-ca.crt", "default").data["ca.crt"]
        (files / "ca.crt").write_text(authority, encoding="utf-8")
        environment = {"KUBERNETES_SERVICE_HOST": service.spec.cluster_ip, "KUBERNETES_SERVICE_PORT": str(service.spec.ports[0].port)}
        configuration = client.Configuration()
        incluster_config.InClusterConfigLoader(
            token_filename=str(files / "token"), cert_filename=str(files / "ca.crt"), environ=environment).load_and_set(configuration)
        inside = client.CoreV1Api(client.ApiClient(configuration))
        deadline = time.monotonic() + PATIENCE
        while True:
            # The binding comes into force by event, a moment after it was made.
            try:
                names = [item.metadata.name for item in inside.list_namespaced_config_map("default").items]
                break
            except ApiException as error:
                if error.status != 403 or time.monotonic() > deadline:
                    raise
        same("sample" in names, True, "what a service account lists")
        answer = refused(403, "secrets to a viewer", lambda: inside.list_namespaced_secret("default"))
        same(answer["message"], 'secrets is forbidden: User "system:serviceaccount:default:sample" cannot list resource "secrets" in API group "" in the namespace "default"', "the refusal")
        who = client.AuthenticationV1Api(client.ApiClient(configuration)).create_self_subject_review({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        same(who.status.user_info.username, "system:serviceaccount:default:sample", "who a token is")
    ok("in-cluster configuration with a token, through the Service's address")


def pods(core):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "shell", "image": "busybox:1.37", "command": ["sh", "-c", "echo started; exec sleep 1000"]}]}}
    core.create_namespaced_pod("default", pod)
    for event in watch.Watch().stream(core.list_namespaced_pod, "default", field_selector="metadata.name=shell", timeout_seconds=PATIENCE):
        if event["object"].status.phase == "Running":
            break
    # The client makes text of the bytes' representation, whoever answers.
    log = core.read_namespaced_pod_log("shell", "default", follow=True, limit_bytes=8, _preload_content=False)
    same(log.data, b"started\n", "a log")
    talk = stream(core.connect_get_namespaced_pod_exec, "shell", "default", command=["sh", "-c", "read x; echo got $x; echo bad >&2; exit 3"],
                  stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False)
    talk.write_stdin("hello\n")
    talk.run_forever(timeout=PATIENCE)
    same((talk.read_stdout(), talk.read_stderr(), talk.returncode), ("got hello\n", "bad\n", 3), "a command's outputs and its end")
    core.delete_namespaced_pod("shell", "default", grace_period_seconds=0)
    ok("a pod: log, exec with input, both outputs and the exit code")


def main():
    config.load_kube_config()
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    same(client.VersionApi().get_code().minor.startswith("36"), True, "the server's version")
    typed_kinds()
    crud(core)
    patches(core, apps)
    watches(core)
    informers(core)
    custom(client.ApiClient())
    leases()
    in_cluster(core)
    pods(core)


main()
