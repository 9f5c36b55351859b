// What a program with the official JavaScript client does, against a running cluster: KUBECONFIG says which.
//
//     check.js KINDS
//
// KINDS is a manifest of one object of each kind. Prints what held, line by line; the first thing that does not ends it.

import assert from "node:assert/strict";
import { once, EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { PassThrough } from "node:stream";
import * as k8s from "@kubernetes/client-node";

const KINDS = process.argv[2];
const PATIENCE = 30_000;
const namespace = "default";
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

const ok = (what) => console.log(`ok: ${what}`);

async function refused(code, call) {
  const error = await call().then(() => assert.fail("was not refused"), (error) => error);
  assert.equal(error.code, code, `${error}`);
  return typeof error.body === "string" ? JSON.parse(error.body) : error.body;
}

// Resolves with what `start` gets told first; the watch ends with it.
function within(start) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("nothing came in time")), PATIENCE);
    start((value) => {
      clearTimeout(late);
      resolve(value);
    }, reject);
  });
}

async function kinds() {
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const wanted = k8s.loadAllYaml(readFileSync(KINDS, "utf8")).filter(Boolean);
  for (const object of wanted) {
    const { apiVersion, kind } = object;
    // Several clients may have made it.
    await objects.create(object).catch((error) => assert.equal(error.code, 409, `${kind}: ${error}`));
    const read = await objects.read(object);
    assert.deepEqual([read.apiVersion, read.kind, read.metadata.labels.sample], [apiVersion, kind, "yes"]);
    const space = read.metadata.namespace;
    const listed = await objects.list(apiVersion, kind, space, undefined, undefined, undefined, undefined, "sample=yes");
    assert.ok(listed.items.some((item) => item.metadata.name === object.metadata.name), `${kind} among its kind`);
    assert.ok(listed.items.every((item) => item.metadata.creationTimestamp), `${kind}'s time`);
  }
  ok(`${wanted.length} kinds made, read and listed`);
}

async function crud() {
  const body = { metadata: { generateName: "made-", labels: { made: "here" } }, data: { a: "1" } };
  const made = await core.createNamespacedConfigMap({ namespace, body });
  const name = made.metadata.name;
  const stale = await core.readNamespacedConfigMap({ namespace, name });
  made.data.a = "2";
  const replaced = await core.replaceNamespacedConfigMap({ namespace, name, body: made });
  assert.deepEqual(replaced.data, { a: "2" });
  assert.equal((await refused(409, () => core.replaceNamespacedConfigMap({ namespace, name, body: stale }))).reason, "Conflict");
  const answer = await core.deleteNamespacedConfigMap({ namespace, name });
  assert.equal(answer.status, "Success");
  assert.equal((await refused(404, () => core.readNamespacedConfigMap({ namespace, name }))).reason, "NotFound");
  for (const number of [0, 1, 2]) {
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `page-${number}`, labels: { made: "here" } } } });
  }
  const first = await core.listNamespacedConfigMap({ namespace, labelSelector: "made=here", limit: 2 });
  assert.equal(first.items.length, 2);
  assert.equal(first.metadata.remainingItemCount, undefined, "not told with a selector");
  const rest = await core.listNamespacedConfigMap({ namespace, labelSelector: "made=here", limit: 2, _continue: first.metadata._continue });
  assert.deepEqual(rest.items.map((item) => item.metadata.name), ["page-2"]);
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: "made=here" });
  const left = await core.listNamespacedConfigMap({ namespace, labelSelector: "made=here" });
  assert.deepEqual(left.items, []);
  ok("create, read, replace, delete, pages, delete of a collection");
}

async function patches() {
  const name = "patched";
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: { a: "1" } } });
  const patch = (type, body, more = {}) =>
    core.patchNamespacedConfigMap({ namespace, name, body, ...more }, k8s.setHeaderOptions("Content-Type", type)).then((map) => map.data);
  assert.deepEqual(await patch(k8s.PatchStrategy.StrategicMergePatch, { data: { b: "2" } }), { a: "1", b: "2" });
  assert.deepEqual(await patch(k8s.PatchStrategy.MergePatch, { data: { a: null } }), { b: "2" });
  assert.deepEqual(await patch(k8s.PatchStrategy.JsonPatch, [{ op: "move", from: "/data/b", path: "/data/c" }]), { c: "2" });
  const applied = { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { c: "mine" } };
  const apply = (more) => patch(k8s.PatchStrategy.ServerSideApply, applied, { fieldManager: "checker", ...more });
  const conflict = await refused(409, () => apply({}));
  assert.match(conflict.message, /^Apply failed with 1 conflict: conflict with ".*": \.data\.c$|^Apply failed with 1 conflict: conflict with ".*" using v1: \.data\.c$/);
  assert.deepEqual(await apply({ force: true }), { c: "mine" });
  ok("patches of every type, apply and its conflicts");
}

async function watches() {
  const { metadata } = await core.listNamespacedSecret({ namespace });
  const seen = [];
  const watched = within((done, fail) => {
    const watch = new k8s.Watch(config);
    watch.watch(`/api/v1/namespaces/${namespace}/secrets`, { resourceVersion: metadata.resourceVersion, allowWatchBookmarks: true },
      (type, object) => {
        if (type !== "BOOKMARK") seen.push(`${type} ${object.metadata.name}`);
        if (seen.length === 3) done();
      }, (error) => fail(error ?? new Error("the watch ended")));
  });
  const body = { metadata: { name: "watched" }, stringData: { a: "1" } };
  await core.createNamespacedSecret({ namespace, body });
  await core.replaceNamespacedSecret({ namespace, name: "watched", body: { ...body, stringData: { a: "2" } } });
  await core.deleteNamespacedSecret({ namespace, name: "watched" });
  await watched;
  assert.deepEqual(seen, ["ADDED watched", "MODIFIED watched", "DELETED watched"]);
  ok("a watch from a revision");
}

async function informer() {
  const labelSelector = "informed=yes";
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
  const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, labelSelector);
  const heard = new EventEmitter();
  for (const verb of ["add", "update", "delete"]) informer.on(verb, (object) => heard.emit(verb, object.metadata.name));
  // Stopping it aborts its watch, of which it tells, too.
  informer.on("error", (error) => error.type === "aborted" || heard.emit("error", error));
  const signal = AbortSignal.timeout(PATIENCE);
  const body = { metadata: { name: "informed", labels: { informed: "yes" } } };
  const added = once(heard, "add", { signal });
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body });
  assert.deepEqual(await added, ["informed"]);
  const updated = once(heard, "update", { signal });
  await core.replaceNamespacedConfigMap({ namespace, name: "informed", body: { ...body, data: { a: "1" } } });
  await updated;
  assert.deepEqual(informer.get("informed", namespace).data, { a: "1" });
  const gone = once(heard, "delete", { signal });
  await core.deleteNamespacedConfigMap({ namespace, name: "informed" });
  await gone;
  assert.deepEqual(informer.list(), []);
  await informer.stop();
  ok("an informer");
}

async function custom() {
  const definitions = config.makeApiClient(k8s.ApiextensionsV1Api);
  const name = "gears.check.example";
  // The typed model has names of its own for these two.
  const size = { type: "integer", maximum: 9, _default: 3 };
  const openAPIV3Schema = { type: "object", properties: { spec: { type: "object", _default: {}, properties: { size } }, status: { type: "object", x_kubernetes_preserve_unknown_fields: true } } };
  const spec = { group: "check.example", scope: "Namespaced", names: { plural: "gears", kind: "Gear" },
    versions: [{ name: "v1", served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema } }] };
  await definitions.createCustomResourceDefinition({ body: { metadata: { name }, spec } });
  await within((done, fail) => {
    new k8s.Watch(config).watch("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { fieldSelector: `metadata.name=${name}` },
      (_, object) => {
        const conditions = object.status?.conditions ?? [];
        if (conditions.some(({ type, status }) => type === "Established" && status === "True")) done();
      }, (error) => error && fail(error));
  });
  const gears = config.makeApiClient(k8s.CustomObjectsApi);
  const place = { group: "check.example", version: "v1", namespace, plural: "gears" };
  const gear = { apiVersion: "check.example/v1", kind: "Gear", metadata: { name: "one" } };
  assert.deepEqual((await gears.createNamespacedCustomObject({ ...place, body: gear })).spec, { size: 3 });
  const wrong = { ...gear, metadata: { name: "two" }, spec: { size: 10 } };
  const answer = await refused(422, () => gears.createNamespacedCustomObject({ ...place, body: wrong }));
  assert.equal(answer.message, 'Gear.check.example "two" is invalid: spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9');
  const turned = { status: { turned: { times: 1 } } };
  const merge = k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch);
  const patched = await gears.patchNamespacedCustomObjectStatus({ ...place, name: "one", body: turned }, merge);
  assert.deepEqual(patched.status, turned.status);
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const applied = await objects.patch({ ...gear, metadata: { name: "one", namespace }, spec: { size: 4 } }, undefined, undefined, "checker", true, k8s.PatchStrategy.ServerSideApply);
  assert.equal(applied.spec.size, 4);
  await definitions.deleteCustomResourceDefinition({ name });
  ok("a custom kind, its objects, status and apply");
}

async function pods() {
  const name = "talker";
  const command = ["sh", "-c", "echo started; exec sleep 1000"];
  const body = { metadata: { name }, spec: { terminationGracePeriodSeconds: 0, containers: [{ name, image: "busybox:1.37", command }] } };
  await core.createNamespacedPod({ namespace, body });
  await within((done, fail) => {
    new k8s.Watch(config).watch(`/api/v1/namespaces/${namespace}/pods`, { fieldSelector: `metadata.name=${name}` },
      (_, pod) => pod.status.phase === "Running" && done(), (error) => error && fail(error));
  });
  const collect = (stream) => {
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    return () => Buffer.concat(chunks).toString();
  };
  const logged = new PassThrough();
  const log = collect(logged);
  await new k8s.Log(config).log(namespace, name, name, logged, { limitBytes: 8, follow: true });
  await once(logged, "end", { signal: AbortSignal.timeout(PATIENCE) });
  assert.equal(log(), "started\n");
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const [out, err] = [collect(stdout), collect(stderr)];
  const status = await within((done, fail) => {
    const script = "read x; echo got $x; echo bad >&2; exit 3";
    new k8s.Exec(config).exec(namespace, name, name, ["sh", "-c", script], stdout, stderr, stdin, false, done).catch(fail);
    stdin.write("hello\n");
  });
  assert.deepEqual([out(), err(), status.reason, status.details.causes[0].message], ["got hello\n", "bad\n", "NonZeroExitCode", "3"]);
  await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });
  ok("a pod: log, exec with input, both outputs and the exit code");
}

assert.match((await config.makeApiClient(k8s.VersionApi).getCode()).gitVersion, /^v1\.36\./);
for (const check of [kinds, crud, patches, watches, informer, custom, pods]) await check();
// Watches are open still.
process.exit(0);
