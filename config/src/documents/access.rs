//! `AccessPolicy`: who may call what, by identity.

use crate::documents::{ModeWord, Spanned, TargetRef, ValueMatchSpec, document, words};

document! {
    /// Who may call what. Deny rules win; with any allow rule, the rest is denied.
    struct AccessPolicySpec {
        /// The Upstreams, Services or Namespaces that it guards.
        #[schemars(length(min = 1, max = 1024))]
        target_refs: Vec<Spanned<TargetRef>>,
        /// Whether it acts. Default `enforce`.
        mode: Option<ModeWord>,
        /// The rules; their order does not matter.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        rules: Vec<Spanned<AccessRuleSpec>>,
    }

    /// One rule.
    struct AccessRuleSpec {
        /// What the rule does. Default `allow`.
        action: Option<ActionWord>,
        /// Any of these callers. Absent: every caller.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        from: Vec<Spanned<SourceSpec>>,
        /// Any of these operations. Absent: every one.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        to: Vec<Spanned<OperationSpec>>,
    }

    /// Callers: all that is said must hold.
    struct SourceSpec {
        /// SPIFFE IDs.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "spiffe-id" }), length(max = 1024))]
        identities: Vec<Spanned<String>>,
        /// Namespaces of SPIFFE IDs.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "object-name" }), length(max = 1024))]
        namespaces: Vec<Spanned<String>>,
        /// Address ranges.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "cidr" }), length(max = 1024))]
        cidrs: Vec<Spanned<String>>,
    }

    /// Operations: all that is said must hold.
    struct OperationSpec {
        /// Any of these methods.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "http-method" }), length(max = 64))]
        methods: Vec<Spanned<String>>,
        /// Any of these paths: exact, or a prefix before a final `*`.
        #[serde(default)]
        #[schemars(inner(length(max = 1024)))]
        paths: Vec<Spanned<String>>,
        /// All of these header fields.
        #[serde(default)]
        #[schemars(length(max = 64))]
        headers: Vec<Spanned<ValueMatchSpec>>,
        /// Any of these ports of the listener.
        #[serde(default)]
        #[schemars(inner(range(min = 1, max = 65535)), length(max = 1024))]
        ports: Vec<Spanned<u16>>,
    }
}

words! {
    /// What a rule does.
    enum ActionWord {
        /// Lets pass.
        Allow = "allow",
        /// Refuses; wins over allow.
        Deny = "deny",
    }
}
