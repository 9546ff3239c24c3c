//! What people write: types that mirror the YAML of every kind, one to one.
//!
//! They say what is *well-formed*; what it means, and whether it makes sense together, is for
//! [`compile`](crate::compile). Their doc comments are the descriptions of the generated schemas, so they speak to the
//! authors of YAML. Absent is `None` or an empty list; a default stands where it is compiled, and in the description.

mod access;
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

/// Declares [`Document`] and [`Kind`] over one list of kinds.
macro_rules! kinds {
    ($($kind:ident: $spec:ty, $version:ident;)*) => {
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
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

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

            pub(crate) fn decode(self, node: &crate::yaml::Node) -> Result<Document, serde::de::value::Error> {
                match self { $(Self::$kind => crate::decode::decode(node).map(|d| Document::$kind(Box::new(d))),)* }
            }

            pub(crate) fn raw_schema(self, generator: schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$kind => generator.into_root_schema_for::<Resource<$spec>>(),)* }
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

kinds! {
    Proxy: ProxySpec, OUTRIGGER;
    Upstream: UpstreamSpec, OUTRIGGER;
    HTTPRoute: HttpRouteSpec, GATEWAY;
    GRPCRoute: GrpcRouteSpec, GATEWAY;
    TrafficPolicy: TrafficPolicySpec, OUTRIGGER;
    AccessPolicy: AccessPolicySpec, OUTRIGGER;
    MeshPolicy: MeshPolicySpec, OUTRIGGER;
}

impl Kind {
    /// The kind that documents call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.as_str() == name)
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
