//! What people write: types that mirror the YAML of every kind, one to one.
//!
//! They say what is *well-formed*; what it means, and whether it makes sense together, is for
//! [`compile`](crate::compile). Their doc comments are the descriptions of the generated schemas, so they speak to the
//! authors of YAML. Absent is `None` or an empty list; a default stands where it is compiled, and in the description.

mod access;
mod cluster;
mod discovery;
mod filters;
mod mesh;
mod meta;
mod proxy;
mod route;
mod scalars;
mod spanned;
mod traffic;
mod upstream;

use serde::Serialize;

pub use access::*;
pub use cluster::*;
pub use discovery::*;
pub use filters::*;
pub use mesh::*;
pub use meta::*;
pub use proxy::*;
pub use route::*;
pub use scalars::{Address, Duration};
pub use spanned::Spanned;
pub use traffic::*;
pub use upstream::*;

pub(crate) use scalars::FORMATS;
pub(crate) use spanned::SPANNED;

/// The API version of our kinds.
pub const OUTRIGGER: &str = "outrigger.dev/v1alpha1";
/// The API version of the Gateway API's kinds.
pub const GATEWAY: &str = "gateway.networking.k8s.io/v1";
/// The API version of Services.
pub const CORE: &str = "v1";
/// The API version of ReferenceGrants; `v1` says the same.
pub const GRANT: &str = "gateway.networking.k8s.io/v1beta1";

/// Declares [`Document`] and [`Kind`] over one list of kinds: those that people write for us, and those that a cluster keeps.
macro_rules! kinds {
    ($($kind:ident: $spec:ty, $version:ident, $place:ident;)*) => {
        /// A document of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Document {
            $(#[doc = concat!("A `", stringify!($kind), "`.")] $kind(Box<Resource<$spec>>),)*
        }

        /// The kind of a document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// Each of them.
            pub(crate) const EVERY: &[Self] = &[$(Self::$kind,)*];

            /// As documents write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// The `apiVersion` of its documents.
            #[must_use]
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$kind => $version,)* }
            }

            fn place(self) -> bool {
                match self { $(Self::$kind => $place,)* }
            }

            pub(crate) fn decode(self, node: &crate::yaml::Node) -> Result<Document, serde::de::value::Error> {
                match self { $(Self::$kind => crate::decode::decode(node).map(|d| Document::$kind(Box::new(d))),)* }
            }

            pub(crate) fn raw_schema(self, generator: schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$kind => generator.into_root_schema_for::<Resource<$spec>>(),)* }
            }

            /// The schema of its `spec` alone, whose description says what the kind is for.
            pub(crate) fn raw_spec(self, generator: schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$kind => generator.into_root_schema_for::<$spec>(),)* }
            }
        }

        impl Document {
            /// Which kind it is of.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }

            /// Name and all that.
            #[must_use]
            pub fn metadata(&self) -> &Metadata {
                match self { $(Self::$kind(d) => &d.metadata,)* }
            }
        }
    };
}

/// People write it.
const WRITTEN: bool = true;
/// A cluster keeps it.
const KEPT: bool = false;

kinds! {
    Proxy: ProxySpec, OUTRIGGER, WRITTEN;
    Upstream: UpstreamSpec, OUTRIGGER, WRITTEN;
    HTTPRoute: HttpRouteSpec, GATEWAY, WRITTEN;
    GRPCRoute: GrpcRouteSpec, GATEWAY, WRITTEN;
    TrafficPolicy: TrafficPolicySpec, OUTRIGGER, WRITTEN;
    AccessPolicy: AccessPolicySpec, OUTRIGGER, WRITTEN;
    MeshPolicy: MeshPolicySpec, OUTRIGGER, WRITTEN;
    Service: ServiceSpec, CORE, KEPT;
    ReferenceGrant: ReferenceGrantSpec, GRANT, KEPT;
}

impl Kind {
    /// All kinds that people write for us.
    pub const ALL: &[Self] = &[
        Self::Proxy,
        Self::Upstream,
        Self::HTTPRoute,
        Self::GRPCRoute,
        Self::TrafficPolicy,
        Self::AccessPolicy,
        Self::MeshPolicy,
    ];

    /// The kind that documents and objects call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::EVERY.iter().copied().find(|k| k.as_str() == name)
    }

    /// True if people write it for us, false if it only stands in a cluster.
    #[must_use]
    pub fn is_written(self) -> bool {
        self.place()
    }

    /// True if it is one of ours.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.api_version() == OUTRIGGER
    }
}

impl Document {
    /// The document as YAML, without fields that say nothing. Reading it gives an equal document.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let value = serde_yaml::to_value(self).map(prune);
        value
            .and_then(|v| serde_yaml::to_string(&v))
            .expect("documents are trees of strings, numbers, lists and mappings")
    }
}

/// Drops `null` from mappings: an absent field says the same.
fn prune(value: serde_yaml::Value) -> serde_yaml::Value {
    use serde_yaml::Value;
    match value {
        Value::Mapping(m) => {
            Value::Mapping(m.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, prune(v))).collect())
        }
        Value::Sequence(s) => Value::Sequence(s.into_iter().map(prune).collect()),
        other => other,
    }
}

/// Declares structs that documents are made of: camel case, unknown fields denied.
macro_rules! document {
    ($($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$outer])*
            #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $name {
                $($(#[$inner])* pub $field: $type,)*
            }
        )*
    };
}

/// Declares enumerations of words.
macro_rules! words {
    ($($(#[$outer:meta])* enum $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal,)* })*) => {
        $(
            $(#[$outer])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            pub enum $name {
                $($(#[$inner])* #[serde(rename = $text)] $variant,)*
            }
        )*
    };
}

pub(crate) use {document, words};
