//! Filters of `HTTPRoute` and `GRPCRoute` rules and backends.

use crate::documents::{HttpHeader, Ignored, ObjectRef, Spanned, document, words};

document! {
    /// Something done to a request or response. The field that `type` names must be there, and no other.
    struct RouteFilter {
        /// Which field says the rest.
        r#type: Spanned<FilterTypeWord>,
        /// Edits of the request's headers.
        request_header_modifier: Option<Spanned<HeaderModifier>>,
        /// Edits of the response's headers.
        response_header_modifier: Option<Spanned<HeaderModifier>>,
        /// Answers with a redirect.
        request_redirect: Option<Spanned<RequestRedirect>>,
        /// Changes host or path.
        url_rewrite: Option<Spanned<UrlRewrite>>,
        /// Sends copies elsewhere; their answers are thrown away.
        request_mirror: Option<Spanned<RequestMirror>>,
        /// Not supported.
        extension_ref: Option<Spanned<Ignored>>,
        /// Not supported.
        cors: Option<Spanned<Ignored>>,
        /// Not supported.
        external_auth: Option<Spanned<Ignored>>,
    }

    /// Header edits.
    struct HeaderModifier {
        /// Replaces fields.
        #[serde(default)]
        #[schemars(length(max = 256))]
        set: Vec<Spanned<HttpHeader>>,
        /// Appends fields.
        #[serde(default)]
        #[schemars(length(max = 256))]
        add: Vec<Spanned<HttpHeader>>,
        /// Drops fields.
        #[serde(default)]
        #[schemars(extend("items" = { "type": "string", "format": "header-name" }), length(max = 256))]
        remove: Vec<Spanned<String>>,
    }

    /// A redirect.
    struct RequestRedirect {
        /// The scheme. Default: that of the request.
        scheme: Option<SchemeWord>,
        /// The host. Default: that of the request.
        #[schemars(extend("format" = "precise-hostname"))]
        hostname: Option<Spanned<String>>,
        /// The port. Default: the usual one of `scheme`; without it, that of the listener.
        #[schemars(range(min = 1, max = 65535))]
        port: Option<u16>,
        /// The path. Default: that of the request.
        path: Option<Spanned<PathModifier>>,
        /// 301, 302, 303, 307 or 308. Default 302.
        status_code: Option<Spanned<u16>>,
    }

    /// A change of host or path.
    struct UrlRewrite {
        /// New value of `Host`.
        #[schemars(extend("format" = "precise-hostname"))]
        hostname: Option<Spanned<String>>,
        /// New path.
        path: Option<Spanned<PathModifier>>,
    }

    /// A new path. The field that `type` names must be there.
    struct PathModifier {
        /// Which of the two.
        r#type: Spanned<PathModifierWord>,
        /// The whole new path.
        #[schemars(length(max = 1024))]
        replace_full_path: Option<Spanned<String>>,
        /// What stands in for the matched prefix.
        #[schemars(length(max = 1024))]
        replace_prefix_match: Option<Spanned<String>>,
    }

    /// Copies of requests.
    struct RequestMirror {
        /// Where the copies go.
        backend_ref: Spanned<ObjectRef>,
        /// Share of the requests in percent. Default 100.
        #[schemars(range(min = 0, max = 100))]
        percent: Option<Spanned<u32>>,
        /// Share of the requests as a fraction.
        fraction: Option<Spanned<Fraction>>,
    }

    /// A fraction.
    struct Fraction {
        /// Above the line.
        #[schemars(range(min = 0, max = 2_147_483_647u32))]
        numerator: Spanned<u32>,
        /// Below the line. Default 100.
        #[schemars(range(min = 1, max = 2_147_483_647u32))]
        denominator: Option<Spanned<u32>>,
    }
}

words! {
    /// Types of filters.
    enum FilterTypeWord {
        /// Edits of the request's headers.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// Edits of the response's headers.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// A redirect.
        RequestRedirect = "RequestRedirect",
        /// A change of host or path.
        UrlRewrite = "URLRewrite",
        /// Copies of requests.
        RequestMirror = "RequestMirror",
        /// Not supported.
        Cors = "CORS",
        /// Not supported.
        ExternalAuth = "ExternalAuth",
        /// Not supported.
        ExtensionRef = "ExtensionRef",
    }

    /// Schemes of redirects.
    enum SchemeWord {
        /// Plain.
        Http = "http",
        /// With TLS.
        Https = "https",
    }

    /// How a path changes.
    enum PathModifierWord {
        /// The whole path; the query stays.
        ReplaceFullPath = "ReplaceFullPath",
        /// The prefix that matched.
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }
}
