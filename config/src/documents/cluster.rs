//! Objects that a cluster keeps and nobody writes for Outrigger: what the compiler reads of them.
//!
//! They stand in no file. The other fields of theirs are left out before they get here, or when they are read.

use crate::documents::{Spanned, document};

document! {
    /// A Kubernetes Service.
    struct ServiceSpec {
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        r#type: Option<String>,
        /// For `ExternalName`: the DNS name.
        external_name: Option<Spanned<String>>,
        /// Its ports.
        #[serde(default)]
        ports: Vec<Spanned<ServicePortSpec>>,
    }

    /// A port of a Service.
    struct ServicePortSpec {
        /// Its name; may be absent if it is the only one.
        name: Option<Spanned<String>>,
        /// Its number.
        #[schemars(range(min = 1, max = 65535))]
        port: Spanned<u16>,
        /// `TCP` if absent. Others are not carried.
        protocol: Option<String>,
        /// What is spoken there.
        app_protocol: Option<String>,
    }

    /// Who may refer to what of the namespace of this object.
    struct ReferenceGrantSpec {
        /// Any of these may.
        #[serde(default)]
        from: Vec<GrantFromSpec>,
        /// To any of these.
        #[serde(default)]
        to: Vec<GrantToSpec>,
    }

    /// Who may refer.
    struct GrantFromSpec {
        /// Of its kind.
        group: String,
        /// Its kind.
        kind: String,
        /// Where it is.
        namespace: String,
    }

    /// What may be referred to.
    struct GrantToSpec {
        /// Of its kind; empty for a Service.
        group: String,
        /// Its kind.
        kind: String,
        /// Absent: every one.
        name: Option<String>,
    }
}
