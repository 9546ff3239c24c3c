//! The last good state on disk, so that a container that is started again serves before the control plane is reached.
//!
//! A length-delimited sequence of the protocol's own messages: a first one for whom it was saved, then the
//! resources. Replaced by rename. Never a key, never a certificate of ours: an identity is always asked for anew, so what is
//! here lets nobody in. What cannot be read is no error of the proxy, which then starts with nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use outrigger_config::discovery::{Absent, ControlMessage, Resource, Welcome, control_message, resource};
use prost::Message as _;

use super::{
    Bootstrap,
    assemble::Mesh,
    cache::{Body, Held, TRUST},
};

/// Name of the file.
const FILE: &str = "resources.pb";
/// Largest file that is read or written: a proxy that uses a hundred Services with a thousand endpoints each.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// Writes what is in force.
///
/// # Errors
/// The system's, or it is too large.
pub fn store<'a>(
    dir: &Path,
    boot: &Bootstrap,
    mesh: &Mesh,
    held: impl Iterator<Item = (&'a str, &'a Held)>,
) -> io::Result<()> {
    let welcome = Welcome {
        replica: owner(boot),
        cluster_domain: mesh.cluster_domain.clone(),
        mesh_namespace: mesh.mesh_namespace.clone(),
        ..Welcome::default()
    };
    let mut bytes = Vec::new();
    put(&mut bytes, control_message::Message::Welcome(welcome));
    for (key, held) in held.filter(|(key, _)| *key != TRUST) {
        let body = match held.body.clone() {
            Body::Binding(b) => resource::Body::Binding(b),
            Body::Service(s) => resource::Body::Service(s),
            Body::Workload(w) => resource::Body::Workload(w),
            Body::Trust(_) => continue,
            Body::Absent => resource::Body::Absent(Absent::default()),
        };
        // What was refused is judged again.
        let version = if held.refused { String::new() } else { held.version.clone() };
        put(
            &mut bytes,
            control_message::Message::Resource(Resource { key: key.to_owned(), version, body: Some(body) }),
        );
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it would be larger than {MAX_FILE} bytes")));
    }
    let (file, draft) = (path(dir), dir.join(".resources.pb.draft"));
    fs::write(&draft, &bytes)?;
    fs::rename(draft, file)
}

/// Reads what was saved for this pod.
///
/// # Errors
/// There is nothing, or nothing that this version and pod can use.
pub fn load(dir: &Path, boot: &Bootstrap) -> io::Result<(Mesh, Vec<Resource>)> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path(dir))?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong("the file is too large"));
    }
    let mut rest = &bytes[..];
    let mut mesh = None;
    let mut resources = Vec::new();
    while !rest.is_empty() {
        let message = ControlMessage::decode_length_delimited(&mut rest).map_err(|e| wrong(&e.to_string()))?;
        match (message.message, &mesh) {
            (Some(control_message::Message::Welcome(welcome)), None) => {
                if welcome.replica != owner(boot) {
                    return Err(wrong("it was saved for another pod"));
                }
                let Welcome { cluster_domain, mesh_namespace, .. } = welcome;
                mesh = Some(Mesh { cluster_domain, mesh_namespace });
            }
            (Some(control_message::Message::Resource(resource)), Some(_)) => resources.push(resource),
            _ => return Err(wrong("it is not what this version writes")),
        }
    }
    Ok((mesh.ok_or_else(|| wrong("it is empty"))?, resources))
}

fn put(bytes: &mut Vec<u8>, message: control_message::Message) {
    bytes.extend(ControlMessage { message: Some(message) }.encode_length_delimited_to_vec());
}

/// For whom it is saved: another pod on the same volume must not take over what this one serves.
fn owner(boot: &Bootstrap) -> String {
    let pod = &boot.pod;
    format!("{} {}/{} {}", boot.id, pod.namespace, pod.name, pod.uid)
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}
