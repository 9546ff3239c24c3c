//! What a kubelet does with a container: its command line, variables, volumes, user and capabilities; and its probes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use outrigger_tests::{Reply, binary};
use serde_json::Value;

use super::*;

/// `httpGet` as the kubelet does it. `None`: nobody listens.
pub(crate) fn ask(pod: &Pod, http: &Value) -> Option<Reply> {
    let port = http["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let to = SocketAddr::from((pod.ip(), port));
    std::net::TcpStream::connect(to).ok().map(|_| wire::get(to, http["path"].as_str().expect("a path")))
}

/// A container's command line with nothing but its own variables, as its user and with its capabilities alone.
pub(crate) fn command(world: &World, pod: &Pod, object: &Value, container: &Value) -> Command {
    assert_eq!(container["command"], Value::Null, "the image's entry point is `outrigger-proxy`");
    let security = &container["securityContext"];
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(security["allowPrivilegeEscalation"], false);
    let added = items(&security["capabilities"]["add"]).filter_map(Value::as_str);
    let kept: String = added.map(|name| format!(",+{}", name.to_lowercase())).collect();
    let mut command = pod.exec(Path::new("setpriv"));
    command.args([format!("--reuid={}", security["runAsUser"]), format!("--regid={}", security["runAsGroup"])]);
    command.args(["--clear-groups", "--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all{kept}")]);
    command.arg(binary::proxy());
    command.args(items(&container["args"]).filter_map(Value::as_str));
    let mounts = mounts(world, object, container);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let help = Command::new(binary::proxy()).args(["run", "--help"]).output().expect("it runs").stdout;
    let help = String::from_utf8_lossy(&help);
    for variable in items(&container["env"]) {
        let name = variable["name"].as_str().expect("a name");
        assert!(name == "RUST_LOG" || help.contains(&format!("[env: {name}=")), "{name} is not read");
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some(path) => field(object, path),
            None => variable["value"].as_str().unwrap_or_default().to_owned(),
        };
        let mounted = mounts.iter().find_map(|(at, dir)| Some(format!("{}{}", dir.display(), value.strip_prefix(at)?)));
        command.env(name, mounted.unwrap_or(value));
    }
    command
}

/// The elements of a list, which need not be there.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A field of the pod, by the downward API.
fn field(object: &Value, path: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(label) = path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']")) {
        return text(&object["metadata"]["labels"][label]);
    }
    if path == "status.podIPs" {
        return items(&object["status"]["podIPs"]).map(|ip| text(&ip["ip"])).collect::<Vec<_>>().join(",");
    }
    let value = object.pointer(&format!("/{}", path.replace('.', "/")));
    value.and_then(Value::as_str).unwrap_or_else(|| panic!("{path} of {object:#}")).to_owned()
}

/// Where a container finds its volumes: the path in the container, and a directory of this machine.
fn mounts(world: &World, object: &Value, container: &Value) -> Vec<(String, PathBuf)> {
    let pod = object["metadata"]["name"].as_str().expect("a name");
    let mount = |mount: &Value| {
        let volume =
            items(&object["spec"]["volumes"]).find(|v| v["name"] == mount["name"]).expect("the volume is there");
        let dir = format!("{pod}/{}", volume["name"].as_str().expect("a name"));
        let at = world.dir.path().join(&dir);
        fs::create_dir_all(&at).expect("the directory is writable");
        if let Some(map) = volume["configMap"]["name"].as_str() {
            let map = eventually("it is written", MINUTE, || world.cluster.get("ConfigMap", &world.namespace, map));
            for (key, text) in map["data"].as_object().into_iter().flatten() {
                world.put(&format!("{dir}/{key}"), text.as_str().expect("a text").as_bytes());
            }
        } else if let Some(token) = volume["projected"]["sources"][0].get("serviceAccountToken") {
            let (audience, life) = (token["audience"].as_str().expect("one"), token["expirationSeconds"].as_u64());
            let life = life.and_then(|life| u32::try_from(life).ok()).expect("a time");
            let text = world.cluster.token(&world.namespace, pod, &[audience], life, Some(pod));
            world.put(&format!("{dir}/{}", token["path"].as_str().expect("a path")), text.as_bytes());
        } else {
            assert!(volume["emptyDir"].is_object(), "{volume}");
            fs::set_permissions(&at, Permissions::from_mode(0o777)).expect("it is ours");
        }
        (mount["mountPath"].as_str().expect("a path").to_owned(), at)
    };
    items(&container["volumeMounts"]).map(mount).collect()
}
