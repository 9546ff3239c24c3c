//! What is watched, and where the API server has it.

use outrigger_config::documents::Kind;

use crate::index::ObjectKind;

/// A kind of objects, as the API server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// As the index names it.
    pub kind: ObjectKind,
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `httproutes`; the label of metrics too.
    pub plural: &'static str,
    /// Defined by a CRD, so it may be absent, and may come later.
    pub custom: bool,
}

/// All of them.
pub const RESOURCES: [Resource; 11] = [
    built_in(ObjectKind::Namespace, "", "v1", "namespaces"),
    built_in(ObjectKind::Service, "", "v1", "services"),
    built_in(ObjectKind::Slice, "discovery.k8s.io", "v1", "endpointslices"),
    built_in(ObjectKind::Pod, "", "v1", "pods"),
    custom(ObjectKind::Document(Kind::HTTPRoute), GATEWAY, "v1", "httproutes"),
    custom(ObjectKind::Document(Kind::GRPCRoute), GATEWAY, "v1", "grpcroutes"),
    // Served as v1beta1 by every release of the standard channel that has `GRPCRoute` v1.
    custom(ObjectKind::Grant, GATEWAY, "v1beta1", "referencegrants"),
    custom(ObjectKind::Document(Kind::Upstream), OUTRIGGER, "v1alpha1", "upstreams"),
    custom(ObjectKind::Document(Kind::TrafficPolicy), OUTRIGGER, "v1alpha1", "trafficpolicies"),
    custom(ObjectKind::Document(Kind::AccessPolicy), OUTRIGGER, "v1alpha1", "accesspolicies"),
    custom(ObjectKind::Document(Kind::MeshPolicy), OUTRIGGER, "v1alpha1", "meshpolicies"),
];

const GATEWAY: &str = "gateway.networking.k8s.io";
const OUTRIGGER: &str = "outrigger.dev";

const fn built_in(kind: ObjectKind, group: &'static str, version: &'static str, plural: &'static str) -> Resource {
    Resource { kind, group, version, plural, custom: false }
}

const fn custom(kind: ObjectKind, group: &'static str, version: &'static str, plural: &'static str) -> Resource {
    Resource { kind, group, version, plural, custom: true }
}

impl Resource {
    /// Of a kind; `None` for what is never watched (`Proxy`).
    #[must_use]
    pub fn of(kind: ObjectKind) -> Option<&'static Self> {
        RESOURCES.iter().find(|r| r.kind == kind)
    }

    /// `/apis/GROUP/VERSION`, which lists the kinds of it that are served.
    #[must_use]
    pub fn group_path(&self) -> String {
        match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// Of the objects of all namespaces.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.group_path(), self.plural)
    }

    /// Of one object.
    #[must_use]
    pub fn object_path(&self, namespace: &str, name: &str) -> String {
        format!("{}/namespaces/{namespace}/{}/{name}", self.group_path(), self.plural)
    }

    /// What to do so that it may be watched: the rule that a role lacks.
    #[must_use]
    pub fn rule(&self, verbs: &str) -> String {
        format!("apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [{verbs}]", self.group, self.plural)
    }

    /// What to do so that it is there.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.group {
            OUTRIGGER => "install them with `outrigger crds | kubectl apply --server-side -f -`",
            _ => "install the Gateway API's standard channel if you want to route with it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let pods = Resource::of(ObjectKind::Pod).unwrap();
        assert_eq!(pods.path(), "/api/v1/pods");
        let routes = Resource::of(ObjectKind::Document(Kind::HTTPRoute)).unwrap();
        assert_eq!(routes.path(), "/apis/gateway.networking.k8s.io/v1/httproutes");
        assert_eq!(
            routes.object_path("shop", "web"),
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web"
        );
        assert_eq!(Resource::of(ObjectKind::Document(Kind::Proxy)), None);
    }
}
