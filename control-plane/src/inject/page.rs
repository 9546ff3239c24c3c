//! `docs/annotations.md`, from the tables that injection goes by.

use outrigger_config::identity::INJECT_LABEL;

use super::{ANNOTATIONS, INJECTED, PROXY_CONTAINER, REDIRECT_CONTAINER, Reason, Settings};

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n| annotation | values | default | |\n| --- | --- | --- | --- |\n");
    for known in ANNOTATIONS {
        let default = if known.default.is_empty() { String::new() } else { format!("`{}`", known.default) };
        let (name, values, meaning) = (known.name, known.values, known.meaning);
        row(&mut page, &[&format!("`{name}`"), values, &default, meaning]);
    }
    page.push_str(REST);
    page.push_str("\n| token | | where only the namespace asks |\n| --- | --- | --- |\n");
    for reason in Reason::ALL {
        let then = if reason.is_nature() { "runs without a proxy, with a warning" } else { "is refused" };
        row(&mut page, &[&format!("`{}`", reason.token()), reason.meaning(), then]);
    }
    page.push_str(AFTER);
    page.replace("{LABEL}", INJECT_LABEL)
        .replace("{INJECTED}", INJECTED)
        .replace("{PROXY}", PROXY_CONTAINER)
        .replace("{REDIRECT}", REDIRECT_CONTAINER)
        .replace("{IMAGE}", &Settings::default().image)
}

fn row(page: &mut String, cells: &[&str]) {
    page.push_str(&format!("| {} |\n", cells.join(" | ")));
}

const HEAD: &str = "<!-- Generated from control-plane/src/inject: `OUTRIGGER_BLESS=1 cargo test -p outrigger-control-plane --test generated`. -->
# Who gets a proxy, and how it is set up

The label `{LABEL}: enabled` on a namespace or a pod (in the template of a Deployment: `spec.template.metadata.labels`) asks for a proxy;
`disabled` asks for none; the pod's wins, and another value is refused. Pods of the control plane's own namespace and of `kube-system` are never touched. A running pod stays
as it is: `kubectl rollout restart` after the label was set.

`outrigger inject -f FILE` does the same to a text as the webhook does to a pod; there the command itself asks, unless a label says `disabled`.

## Annotations

On the pod (in a template: `spec.template.metadata.annotations`). The mesh's defaults are those of the table, unless the chart or
`--proxy-default NAME=VALUE` of the control plane says otherwise. A name or a value that cannot be meant is refused with the field and what would be right.
";

const REST: &str = "
A quantity is Kubernetes' (`100m`, `64Mi`), a time GEP-2257's (`90s`, `1m30s`). If a pod raises a request above the default limit, the limit follows; if it lowers a limit
below the default request, the request follows. In a pod with `spec.resources` only what the pod itself says is set.

## What is added

- **`{PROXY}`**, a native sidecar (`restartPolicy: Always`) before all other `initContainers`, image `{IMAGE}` (by the chart): user 2112, no capability, no
  privilege escalation, read-only root, seccomp `RuntimeDefault`. It fits the Pod Security level `restricted`. `startupProbe` `/readyz`: what comes after it in the pod starts when the
  mesh works. `readinessProbe` `/readyz`: the pod leaves its Services when the proxy goes. `livenessProbe` `/livez`: the process alone, never the control plane. Port `outrigger-admin` (9990).
- **`{REDIRECT}`**, second of the `initContainers` (not with `capture: none`): root, with `NET_ADMIN` and nothing else; ends when the rules
  stand. With `capture: tproxy` `{PROXY}` runs as root with `NET_ADMIN`, which its listener needs, and is known by its group 2112. Init containers of the app come after both, so their traffic is meshed, too.
- Volumes `outrigger-token` (a service account token for the audience `outrigger.dev` alone), `outrigger-trust` (the ConfigMap of that name: a pod waits until the control plane
  has written it), `outrigger-state` (8 MiB of memory: what the proxy needs to start again while the control plane is away; never keys). Neither container sees the pod's token for the
  API server: `outrigger-trust` is mounted where Kubernetes would put it.
- The app's HTTP, TCP and gRPC probes, HTTP and TCP lifecycle hooks and Prometheus scrapes lead to the proxy's admin port (`/app/CONTAINER/readyz`, `/app/metrics`), which asks the app. So they work with
  `mtls: strict`, and a TCP probe still says whether the app listens. Left alone: `exec`, probes with a `host`, a `port` that no container port is called. With `capture: none` only those of
  ports in `inbound-listeners` are rewritten.
- `HTTP_PROXY`, `http_proxy`, `NO_PROXY` and `no_proxy` of the app's containers with `capture: none`, unless they are set.
- The label `{INJECTED}: \"true\"`, the annotation of the same name (what `outrigger uninject` needs to restore the template exactly), and `kubectl.kubernetes.io/default-container` and
  `default-logs-container`, unless they are set.

Nothing else changes: `imagePullSecrets`, `securityContext` of the pod (`fsGroup` too), `hostUsers`, tolerations. The proxy reads its token with and without an `fsGroup`. A
`hostPort` leads to the pod's port and is captured like any other connection.

Injecting twice is injecting once. A second call (`reinvocationPolicy: IfNeeded`) rewrites the probes of containers that other webhooks added in between, and keeps what they changed in ours
(a mirror's image name, for one). What people change in an injected template stays, too: of annotations, labels, variables and probes only those are undone that are as injection left
them.

### Clusters older than 1.29

Without native sidecars (`native-sidecar: disabled`, or a control plane with `--native-sidecars false`) `{PROXY}` is the first of the `containers`; its `postStart` hook holds the others back until it is ready. `{REDIRECT}` is then
the last of the `initContainers`, so init containers of the app go around the mesh: with the rules in place they would find no proxy. The pod of a Job ends when its app has said `POST http://127.0.0.1:9990/shutdown`. `auto` goes by the
version of the API server: while nodes older than 1.29 are left behind a newer one, say `false`. `outrigger inject` asks no API server and takes `auto` as `true`:
for an older cluster write `--native-sidecars false`.

## Refusals

A pod that asks for a proxy itself and cannot have one is refused by the API server, with the field, the reason and the remedy. So is one whose namespace asks, if its author can put it right; what just cannot be meshed runs
without a proxy then, and the API server passes on a warning.
";

const AFTER: &str = "
## When the webhook is away

`failurePolicy: Fail`, for pods that opted in: they wait for the control plane, and none starts without the proxy that it was to have. The API server asks about no other pod, so nothing else waits:
not `kube-system`, not the control plane itself, not pods that opted out.

| | a pod that opted in | others |
| --- | --- | --- |
| no control plane answers | refused (`failed calling webhook`); its ReplicaSet or Job tries again by itself | start |
| it answers too late (`timeoutSeconds`) | the same | start |
| its certificate has expired, or is of another CA | the same (`x509: ...`); the control plane renews it at two thirds of its life and writes its CA into both configurations | start |
| it does not know the namespace yet | it asks the API server, and refuses if that does not answer | start |

Counted in `outrigger_control_plane_injections_total{outcome}`: `injected`, `skipped`, `unmeshed` (let in without a proxy though the namespace asks), `refused`, `failed`.
";
