//! Versions that differ: of the control plane and this program. (Proxies are looked at with the pods that have them.)

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use outrigger_config::identity::CONTROL_PLANE_ACCOUNT;

use super::{Context, Line};

const NAME: &str = "skew";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// More replicas than anybody runs.
const MOST: u32 = 100;

/// The line; `None`: nothing says what the control plane's version is.
pub(super) async fn control_plane(context: &Context) -> Option<Line> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &context.namespace);
    let of_account = format!("status.phase=Running,spec.serviceAccountName={CONTROL_PLANE_ACCOUNT}");
    let list = match pods.list(&ListParams::default().fields(&of_account).limit(MOST)).await {
        Ok(list) => list,
        Err(error) => return Some(Line::failed(NAME, "pods of the control plane", &error)),
    };
    let images = list.items.iter().filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.as_deref());
    let mut found: Vec<&str> = images.filter_map(version).collect();
    found.sort_unstable();
    found.dedup();
    judged(&found)
}

fn judged(found: &[&str]) -> Option<Line> {
    let remedy = "take the program of the mesh's version, or upgrade the chart: docs/upgrade.md";
    match found {
        [] => None,
        [VERSION] => Some(Line::ok(NAME, format!("the control plane is of this program's version, {VERSION}"))),
        [other] => {
            Some(Line::warning(NAME, format!("the control plane is {other}, this program is {VERSION}"), remedy))
        }
        several => {
            let several = several.join(", ");
            let message =
                format!("replicas of the control plane are of several versions: {several}; this program is {VERSION}");
            Some(Line::warning(NAME, message, "wait for its rollout: kubectl rollout status"))
        }
    }
}

/// The version that an image's tag says. A digest, or no tag at all, says nothing.
pub(super) fn version(image: &str) -> Option<&str> {
    let name = image.rsplit('/').next().filter(|name| !name.contains('@'))?;
    name.split_once(':').map(|(_, tag)| tag.trim_start_matches('v'))
}

#[cfg(test)]
mod tests {
    use super::{super::report::Outcome, *};

    #[test]
    fn tags_are_versions_and_differences_are_told() {
        assert_eq!(version("registry.example:5000/a/outrigger:v0.1.0"), Some("0.1.0"));
        assert_eq!(version("registry.example:5000/a/outrigger"), None);
        assert_eq!(version("outrigger@sha256:00"), None);
        let result = |found: &[&str]| judged(found).map(|line| line.result);
        assert_eq!(result(&[]), None);
        assert_eq!(result(&[VERSION]), Some(Outcome::Ok));
        assert_eq!(result(&["0.0.1"]), Some(Outcome::Warning));
        assert_eq!(result(&["0.0.1", VERSION]), Some(Outcome::Warning));
    }
}
