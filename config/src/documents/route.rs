//! `HTTPRoute` and `GRPCRoute` of the Gateway API, with its names and meanings.

use crate::documents::{Duration, Ignored, ParentRef, RouteFilter, Spanned, document, words};

document! {
    /// Which HTTP request goes where.
    struct HttpRouteSpec {
        /// What the route is attached to: Upstreams, or Services in a cluster.
        #[serde(default)]
        #[schemars(length(max = 64))]
        parent_refs: Vec<Spanned<ParentRef>>,
        /// Only requests for these hosts; `*.` at the start for all names below. Absent: every host.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "hostname" }), length(max = 64))]
        hostnames: Vec<Spanned<String>>,
        /// The rules. The most specific match decides, not the order.
        #[schemars(length(min = 1, max = 1024))]
        rules: Vec<Spanned<HttpRouteRule>>,
        /// Experimental in the Gateway API; not used.
        use_default_gateways: Option<Ignored>,
    }

    /// One rule.
    struct HttpRouteRule {
        /// Its name, to which `sectionName` of a policy refers.
        #[schemars(extend("format" = "object-name"))]
        name: Option<Spanned<String>>,
        /// Any of these must hold. Absent: every request.
        #[serde(default)]
        #[schemars(length(max = 256))]
        matches: Vec<Spanned<HttpRouteMatch>>,
        /// What is done to requests and responses.
        #[serde(default)]
        #[schemars(length(max = 64))]
        filters: Vec<Spanned<RouteFilter>>,
        /// Where requests go, by weight. None: 500, unless a filter redirects.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        backend_refs: Vec<Spanned<BackendRef>>,
        /// Times of this rule, over those of a TrafficPolicy.
        timeouts: Option<Spanned<RouteTimeouts>>,
        /// Retries of this rule, over those of a TrafficPolicy.
        retry: Option<Spanned<RouteRetry>>,
        /// Not supported.
        session_persistence: Option<Spanned<Ignored>>,
    }

    /// One match: all that is said must hold.
    struct HttpRouteMatch {
        /// The path. Default: every path.
        path: Option<Spanned<HttpPathMatch>>,
        /// Header fields.
        #[serde(default)]
        #[schemars(length(max = 64))]
        headers: Vec<Spanned<ValueMatchSpec>>,
        /// Query parameters.
        #[serde(default)]
        #[schemars(length(max = 64))]
        query_params: Vec<Spanned<ValueMatchSpec>>,
        /// The method.
        method: Option<Spanned<MethodWord>>,
    }

    /// A condition on the path.
    struct HttpPathMatch {
        /// How it is compared. Default `PathPrefix`.
        r#type: Option<Spanned<PathMatchWord>>,
        /// What it is compared with. Default `/`.
        #[schemars(length(max = 1024))]
        value: Option<Spanned<String>>,
    }

    /// A condition on a header field or query parameter.
    struct ValueMatchSpec {
        /// How it is compared. Default `Exact`.
        r#type: Option<Spanned<ValueMatchWord>>,
        /// Name of the field.
        #[schemars(extend("format" = "header-name"))]
        name: Spanned<String>,
        /// What its value must be.
        #[schemars(length(max = 4096))]
        value: Spanned<String>,
    }

    /// Times of a rule (GEP-1742).
    struct RouteTimeouts {
        /// The whole transaction.
        request: Option<Spanned<Duration>>,
        /// One attempt.
        backend_request: Option<Spanned<Duration>>,
    }

    /// Retries of a rule (GEP-1731).
    struct RouteRetry {
        /// Status codes worth another attempt.
        #[serde(default)]
        #[schemars(inner(range(min = 400, max = 599)))]
        codes: Vec<Spanned<u16>>,
        /// Attempts beyond the first.
        #[schemars(range(min = 0, max = 100))]
        attempts: Option<Spanned<u32>>,
        /// Least time before another attempt.
        backoff: Option<Spanned<Duration>>,
    }

    /// Where a share of the requests goes.
    struct BackendRef {
        /// `outrigger.dev` for an Upstream, empty for a Service. Follows from `kind` if absent.
        group: Option<Spanned<String>>,
        /// `Upstream` or `Service`. Default `Service`.
        kind: Option<Spanned<String>>,
        /// Its name.
        name: Spanned<String>,
        /// Its namespace. Default: that of this document.
        namespace: Option<Spanned<String>>,
        /// Port of a Service.
        #[schemars(range(min = 1, max = 65535))]
        port: Option<Spanned<u16>>,
        /// Share relative to the others. Default 1; 0 takes no traffic.
        #[schemars(range(min = 0, max = 1_000_000))]
        weight: Option<Spanned<u32>>,
        /// Edits of headers of what goes there.
        #[serde(default)]
        #[schemars(length(max = 64))]
        filters: Vec<Spanned<RouteFilter>>,
    }

    /// Which gRPC call goes where.
    struct GrpcRouteSpec {
        /// What the route is attached to: Upstreams, or Services in a cluster.
        #[serde(default)]
        #[schemars(length(max = 64))]
        parent_refs: Vec<Spanned<ParentRef>>,
        /// Only requests for these hosts. Absent: every host.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "hostname" }), length(max = 64))]
        hostnames: Vec<Spanned<String>>,
        /// The rules. The most specific match decides, not the order.
        #[schemars(length(min = 1, max = 1024))]
        rules: Vec<Spanned<GrpcRouteRule>>,
        /// Experimental in the Gateway API; not used.
        use_default_gateways: Option<Ignored>,
    }

    /// One rule.
    struct GrpcRouteRule {
        /// Its name, to which `sectionName` of a policy refers.
        #[schemars(extend("format" = "object-name"))]
        name: Option<Spanned<String>>,
        /// Any of these must hold. Absent: every call.
        #[serde(default)]
        #[schemars(length(max = 256))]
        matches: Vec<Spanned<GrpcRouteMatch>>,
        /// What is done to requests and responses.
        #[serde(default)]
        #[schemars(length(max = 64))]
        filters: Vec<Spanned<RouteFilter>>,
        /// Where calls go, by weight.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        backend_refs: Vec<Spanned<BackendRef>>,
        /// Not supported.
        session_persistence: Option<Spanned<Ignored>>,
    }

    /// One match: all that is said must hold.
    struct GrpcRouteMatch {
        /// Service and method of the call.
        method: Option<Spanned<GrpcMethodMatch>>,
        /// Metadata of the call.
        #[serde(default)]
        #[schemars(length(max = 64))]
        headers: Vec<Spanned<ValueMatchSpec>>,
    }

    /// A condition on service and method; one of them is needed.
    struct GrpcMethodMatch {
        /// How it is compared. Default `Exact`.
        r#type: Option<Spanned<ValueMatchWord>>,
        /// Full name of the service, such as `shop.v1.Orders`.
        #[schemars(length(max = 1024))]
        service: Option<Spanned<String>>,
        /// Name of the method.
        #[schemars(length(max = 1024))]
        method: Option<Spanned<String>>,
    }
}

words! {
    /// How a path is compared.
    enum PathMatchWord {
        /// Byte for byte.
        Exact = "Exact",
        /// Element by element: `/a` matches `/a/b`, not `/ab`.
        PathPrefix = "PathPrefix",
        /// The whole path matches (RE2 syntax).
        RegularExpression = "RegularExpression",
    }

    /// How a value is compared.
    enum ValueMatchWord {
        /// Byte for byte.
        Exact = "Exact",
        /// The whole value matches (RE2 syntax).
        RegularExpression = "RegularExpression",
    }

    /// HTTP methods.
    enum MethodWord {
        /// RFC 9110.
        Get = "GET",
        /// RFC 9110.
        Head = "HEAD",
        /// RFC 9110.
        Post = "POST",
        /// RFC 9110.
        Put = "PUT",
        /// RFC 9110.
        Delete = "DELETE",
        /// RFC 9110.
        Connect = "CONNECT",
        /// RFC 9110.
        Options = "OPTIONS",
        /// RFC 9110.
        Trace = "TRACE",
        /// RFC 5789.
        Patch = "PATCH",
    }
}
