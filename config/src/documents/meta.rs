//! What documents of every kind share: the envelope, metadata, references to other documents.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::documents::{Spanned, document};

/// The envelope of every document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource<S> {
    /// Group and version of the kind.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Name, namespace and what else Kubernetes keeps.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spanned<S>,
    /// What a cluster reports; ignored in a file.
    #[serde(default, skip_serializing)]
    pub status: Option<Ignored>,
}

document! {
    /// Kubernetes object metadata; `name` is needed.
    struct Metadata {
        /// The name, unique among the documents of a kind and namespace.
        #[schemars(extend("format" = "object-name"))]
        name: Spanned<String>,
        /// The namespace. Files usually have none.
        #[schemars(extend("format" = "object-name"))]
        namespace: Option<Spanned<String>>,
        /// Set by Kubernetes. The older of two policies for one target wins.
        creation_timestamp: Option<String>,
        /// Any labels.
        labels: Option<BTreeMap<String, String>>,
        /// Any annotations.
        annotations: Option<BTreeMap<String, String>>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        uid: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        resource_version: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        generation: Option<Ignored>,
        /// For Kubernetes.
        #[serde(skip_serializing)]
        generate_name: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        deletion_timestamp: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        deletion_grace_period_seconds: Option<Ignored>,
        /// For Kubernetes.
        #[serde(skip_serializing)]
        owner_references: Option<Ignored>,
        /// For Kubernetes.
        #[serde(skip_serializing)]
        finalizers: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        managed_fields: Option<Ignored>,
        /// Set by Kubernetes.
        #[serde(skip_serializing)]
        self_link: Option<Ignored>,
    }

    /// A destination by name.
    struct ObjectRef {
        /// `outrigger.dev` for an Upstream, empty for a Service. Follows from `kind` if absent.
        group: Option<Spanned<String>>,
        /// `Upstream` or `Service`. Default `Service`, as in the Gateway API.
        kind: Option<Spanned<String>>,
        /// Its name.
        name: Spanned<String>,
        /// Its namespace. Default: that of this document.
        namespace: Option<Spanned<String>>,
        /// Port of a Service. An Upstream has its own.
        #[schemars(range(min = 1, max = 65535))]
        port: Option<Spanned<u16>>,
    }

    /// What a route is attached to.
    struct ParentRef {
        /// `outrigger.dev` for an Upstream, empty for a Service. Follows from `kind` if absent.
        group: Option<Spanned<String>>,
        /// `Upstream` or `Service`.
        kind: Option<Spanned<String>>,
        /// Its name.
        name: Spanned<String>,
        /// Its namespace. Default: that of this document.
        namespace: Option<Spanned<String>>,
        /// Port of a Service; absent: all of them.
        #[schemars(range(min = 1, max = 65535))]
        port: Option<Spanned<u16>>,
        /// In a cluster: the name of one port of a Service. An Upstream has no sections.
        section_name: Option<Spanned<String>>,
    }

    /// What a policy is for.
    struct TargetRef {
        /// `outrigger.dev` for an Upstream, `gateway.networking.k8s.io` for a route, empty for a Service or Namespace.
        /// Follows from `kind` if absent.
        group: Option<Spanned<String>>,
        /// The kind of the target.
        kind: Spanned<String>,
        /// Its name.
        name: Spanned<String>,
        /// Its namespace. Default: that of this document.
        namespace: Option<Spanned<String>>,
        /// The name of one rule of a route, or, in a cluster, of one port of a Service.
        section_name: Option<Spanned<String>>,
    }

    /// A header field.
    struct HttpHeader {
        /// Its name, in any case.
        #[schemars(extend("format" = "header-name"))]
        name: Spanned<String>,
        /// Its value.
        #[schemars(length(max = 4096))]
        value: Spanned<String>,
    }
}

impl Metadata {
    /// Metadata that say no more than a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: Spanned::new(name.to_owned()),
            namespace: None,
            creation_timestamp: None,
            labels: None,
            annotations: None,
            uid: None,
            resource_version: None,
            generation: None,
            generate_name: None,
            deletion_timestamp: None,
            deletion_grace_period_seconds: None,
            owner_references: None,
            finalizers: None,
            managed_fields: None,
            self_link: None,
        }
    }

    /// The namespace, empty if none is said.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", |n| n.as_str())
    }
}

/// A field that is accepted, whatever it says, and never used.
#[derive(Debug, Clone, Copy)]
pub struct Ignored;

impl PartialEq for Ignored {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Serialize for Ignored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Ignored {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ignored".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}
