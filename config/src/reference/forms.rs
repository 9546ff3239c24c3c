//! What people call the forms of strings that schemas name by `format`.

/// Name in schemas, what people call it, an example, and what to know about it.
pub(super) struct Form {
    pub(super) format: &'static str,
    pub(super) word: &'static str,
    pub(super) example: &'static str,
    pub(super) note: &'static str,
}

const fn form(format: &'static str, word: &'static str, example: &'static str, note: &'static str) -> Form {
    Form { format, word, example, note }
}

/// One for each of [`FORMATS`](crate::documents::FORMATS), which a test holds them to.
pub(super) const FORMS: &[Form] = &[
    form("gep-2257", "duration", "1h30m", "GEP-2257: `h`, `m`, `s`, `ms`, no fractions; at most 99999h; `0s` disables"),
    form("socket-address", "address", "127.0.0.1:8080", "An IP address and a port; IPv6 in brackets: `[::1]:8080`"),
    form("cidr", "address range", "10.0.0.0/8", "CIDR, IPv4 or IPv6"),
    form("spiffe-id", "SPIFFE ID", "spiffe://cluster.local/ns/shop/sa/web", "At most 2048 bytes, with a path"),
    form("object-name", "name", "orders-v2", "At most 253 of `a-z0-9-.`, a letter or digit at both ends"),
    form("header-name", "header name", "x-request-id", "RFC 9110 5.1, at most 256 bytes, in any case"),
    form("http-method", "method", "GET", "Upper case, at most 32 characters"),
    form(
        "hostname",
        "host name",
        "*.shop.example",
        "Lower case, without a port; `*.` at the start for all names below",
    ),
    form("precise-hostname", "plain host name", "shop.example", "Lower case, without a port and without `*`"),
    form(
        "host-and-port",
        "host, maybe with a port",
        "payments.internal:8080",
        "A host name, and a port if it is to count",
    ),
    form("server", "server", "consul.internal:8500", "A host name or IP address, and a port"),
    form("dns-name", "DNS name", "_http._tcp.payments.internal", "Labels of at most 63, underscores allowed"),
    form("http-url", "URL", "http://127.0.0.1:4317", "`http` or `https`, with a host"),
    form("rate-limit-key", "rate limit key", "header:x-tenant", "`client`, `all` or `header:NAME`"),
];

/// What people call a form.
pub(super) fn word(format: &str) -> &'static str {
    FORMS.iter().find(|f| f.format == format).map_or("string", |f| f.word)
}
