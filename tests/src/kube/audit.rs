//! What service accounts asked the API server for, and by which rule they were let in: its audit log.
//!
//! That is how a role is known to be the least: whatever it grants, somebody asks for.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::Cluster;

/// Files in the cluster's directory.
pub(super) const POLICY: &str = "audit-policy.yaml";
pub(super) const LOG: &str = "audit.log";

/// One line for each request of a service account, once it is let in or refused (a watch ends late).
const TEXT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  \
    - level: Metadata\n    userGroups: ['system:serviceaccounts']\n  - level: None\n";

/// A request, as an authorizer sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `list`
    pub verb: String,
    /// Empty for the core group.
    pub group: String,
    /// `httproutes/status`
    pub resource: String,
    /// Empty: everywhere, or of the cluster.
    pub namespace: String,
    /// Empty: all of them, or one that is not there yet.
    pub name: String,
    /// `ClusterRole outrigger-control-plane`; empty where it was refused.
    pub allowed_by: String,
}

impl Cluster {
    /// What a service account asked for so far, each once. Paths that are no resources (`/version`) are left out.
    #[must_use]
    pub fn asked(&self, namespace: &str, account: &str) -> BTreeSet<Asked> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let text = fs::read_to_string(self.dir.join(LOG)).unwrap_or_default();
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["user"]["username"] == user.as_str()).filter_map(|event| asked(&event)).collect()
    }
}

pub(super) fn write_policy(dir: &Path) {
    fs::write(dir.join(POLICY), TEXT).expect("the directory is writable");
}

fn asked(event: &Value) -> Option<Asked> {
    let object = &event["objectRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = match object["subresource"].as_str() {
        Some(sub) => format!("{}/{sub}", object["resource"].as_str()?),
        None => text(&object["resource"]),
    };
    if resource.is_empty() {
        return None;
    }
    let annotations = &event["annotations"];
    let allowed = annotations["authorization.k8s.io/decision"] == "allow";
    let reason = text(&annotations["authorization.k8s.io/reason"]);
    Some(Asked {
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        allowed_by: if allowed { role(&reason) } else { String::new() },
    })
}

/// Of `RBAC: allowed by RoleBinding "a/b" of Role "c" to ServiceAccount "d/e"`.
fn role(reason: &str) -> String {
    let of = reason.split_once(" of ").map_or(reason, |(_, of)| of);
    let role = of.split_once(" to ").map_or(of, |(role, _)| role);
    role.replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_read_from_the_reason() {
        let reason = r#"RBAC: allowed by RoleBinding "a/b" of Role "c" to ServiceAccount "d/e""#;
        assert_eq!(role(reason), "Role c");
    }
}
