//! What is not shown of a request: whatever lets its reader pass for somebody else.
//!
//! The rule errs on the side of hiding: a header or parameter whose name sounds like a credential, a value that is a JSON
//! web token or a long random word, the user and password of a URL. Headers are judged word by word, because a credential
//! may stand in a list; those that are known to hold long words that prove nothing stay readable. What a header says can
//! be asked for by its exact name; what stands in a URL cannot, because there is no need that would be worth it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

#[cfg(test)]
mod tests;

/// What stands in its place.
pub(crate) const REDACTED: &str = "[redacted]";

/// Parts of the names of headers and parameters that hold what is secret, in lower case without `-` and `_`.
const SECRET: [&str; 16] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "passw",
    "passphrase",
    "pwd",
    "credential",
    "session",
    "signature",
    "jwt",
    "assertion",
    "csrf",
    "xsrf",
    "forwardedclientcert",
    "samlre",
];

/// The same for parameters alone, whole names.
const SECRET_PARAMETERS: [&str; 12] =
    ["sig", "code", "sid", "pass", "pin", "otp", "hmac", "ticket", "state", "nonce", "jsessionid", "phpsessid"];

/// Names that hold a part of the above and say nothing secret.
const HARMLESS: [&str; 6] =
    ["proxyauthenticate", "wwwauthenticate", "authority", "author", "idempotencykey", "secwebsocketkey"];

/// Headers whose long words name a request, a version of a body, a place or a program, and let nobody in.
const READABLE: [&str; 34] = [
    "xrequestid",
    "xcorrelationid",
    "requestid",
    "correlationid",
    "traceparent",
    "tracestate",
    "b3",
    "xamzntraceid",
    "xcloudtracecontext",
    "ubertraceid",
    "etag",
    "ifmatch",
    "ifnonematch",
    "ifrange",
    "digest",
    "contentdigest",
    "reprdigest",
    "contentmd5",
    "secwebsocketaccept",
    "host",
    "xforwardedhost",
    "via",
    "origin",
    "location",
    "contentlocation",
    "referer",
    "link",
    "accept",
    "contenttype",
    "contentdisposition",
    "useragent",
    "server",
    "contentsecuritypolicy",
    "accesscontrolallowheaders",
];

/// Beginnings of the names of such headers.
const READABLE_PREFIXES: [&str; 2] = ["xb3", "xdatadog"];

/// Authentication schemes (RFC 9110 11.1) whose parameters are the credential.
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];

/// What Kubernetes' clients put before a token that they send as a WebSocket protocol, up to its first variable part.
const WEBSOCKET_BEARER: &str = "base64url.bearer.";

/// A word of letters and digits that is as long as this was made by a machine: a key, or a digest.
const RANDOM: usize = 24;

/// How a value is judged that nothing else gives away.
#[derive(Clone, Copy)]
struct Rule {
    random: Random,
    /// It may be a URL with parameters of its own. False within such a URL, so that one level is looked at.
    nested: bool,
}

/// Where a random word is taken for a secret.
#[derive(Clone, Copy)]
enum Random {
    /// Nowhere: it names something.
    Shown,
    /// Where it is the whole value.
    Whole,
    /// In any part of the value between punctuation.
    Part,
}

/// The value of a header as it may be shown.
pub(crate) fn header<'a>(name: &[u8], value: &'a str) -> Cow<'a, str> {
    let name = String::from_utf8_lossy(name);
    if !value.is_empty() && (is_secret(&name) || has_scheme(value)) {
        return Cow::Borrowed(REDACTED);
    }
    let name = plain(&name);
    let random = if is_readable(&name) { Random::Shown } else { Random::Part };
    let protocols = name == "secwebsocketprotocol";
    let text = without_user(value);
    let mut out = String::with_capacity(text.len());
    let mut rule = Rule { random, nested: true };
    let mut start = 0;
    for (end, separator) in text.match_indices(['?', '#', '&', ';']) {
        words(&mut out, &text[start..end], rule, protocols);
        out.push_str(separator);
        start = end + separator.len();
        // What follows is the query of a URL, if anything.
        if matches!((separator, rule.random), ("?" | "#", Random::Shown)) {
            rule.random = Random::Whole;
        }
    }
    words(&mut out, &text[start..], rule, protocols);
    if out == value { Cow::Borrowed(value) } else { Cow::Owned(out) }
}

/// Appends the words of a part of a header's value. All that follows the name of a secret belongs to it, because a
/// password may hold spaces and commas; in a list of WebSocket `protocols` a name alone announces what follows.
fn words(out: &mut String, text: &str, rule: Rule, protocols: bool) {
    let mut rest = text;
    loop {
        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let (name, value) = assignment(word);
        let named = name.is_some_and(is_secret_parameter) && !rest[word.len() - value.len()..].trim().is_empty();
        let scheme = SCHEMES.iter().any(|scheme| value.trim_matches('"').eq_ignore_ascii_case(scheme));
        let announced = protocols && !is_credential(word) && (scheme || is_secret(word));
        if named || announced || (scheme && after.starts_with(' ')) {
            out.extend(name.into_iter().flat_map(|name| [name, "="]));
            return out.push_str(REDACTED);
        }
        if word.starts_with('/') || word.contains("://") {
            pieces(out, word, &['/'], rule);
        } else {
            parameter(out, word, rule);
        }
        let Some(separator) = after.chars().next() else { return };
        out.push(separator);
        rest = &after[separator.len_utf8()..];
    }
}

/// A path with its query, or a URL, as it may be shown: `/a?page=2&token=[redacted]`.
pub(crate) fn url(text: &str) -> String {
    judged(text, true)
}

fn judged(text: &str, nested: bool) -> String {
    let text = without_user(text);
    let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let mut out = String::with_capacity(text.len());
    pieces(&mut out, path, &['/', ';', '&'], Rule { random: Random::Shown, nested });
    pieces(&mut out, rest, &['?', '#', '&', ';'], Rule { random: Random::Whole, nested });
    out
}

/// `scheme://user:password@host` without what is before the `@`.
fn without_user(text: &str) -> Cow<'_, str> {
    let Some(start) = text.find("//").map(|i| i + 2) else { return Cow::Borrowed(text) };
    // A path may begin with `//`; only behind a scheme it is an authority.
    if !text[..start].ends_with("://") {
        return Cow::Borrowed(text);
    }
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |i| start + i);
    match text[start..end].rfind('@') {
        Some(at) => Cow::Owned(format!("{}{REDACTED}{}", &text[..start], &text[start + at..])),
        None => Cow::Borrowed(text),
    }
}

/// Appends the pieces of `text` between `separators`, and the separators.
fn pieces(out: &mut String, text: &str, separators: &[char], rule: Rule) {
    let mut start = 0;
    for (end, separator) in text.match_indices(separators) {
        parameter(out, &text[start..end], rule);
        out.push_str(separator);
        start = end + separator.len();
    }
    parameter(out, &text[start..], rule);
}

/// Appends `name=value`, or a word.
fn parameter(out: &mut String, piece: &str, rule: Rule) {
    let (name, value) = assignment(piece);
    let decoded = decode(value);
    let random = match rule.random {
        Random::Shown => false,
        Random::Whole => is_random(&decoded),
        Random::Part => decoded.split(['.', ':', '"', '\'', '<', '>', '(', ')', '[', ']', '{', '}']).any(is_random),
    };
    let secret = name.is_some_and(is_secret_parameter)
        || is_credential(&decoded)
        || random
        || (rule.nested && decoded.contains(['?', '#', '&', ';', '=', '@']) && judged(&decoded, false) != decoded);
    if let Some(name) = name {
        out.push_str(name);
        out.push('=');
    }
    out.push_str(if secret && !value.is_empty() { REDACTED } else { value });
}

/// `name=value` in two. A long word that ends with `=` and punctuation is Base64 with its padding.
fn assignment(piece: &str) -> (Option<&str>, &str) {
    let Some((name, value)) = piece.split_once('=') else { return (None, piece) };
    let padding = name.len() >= RANDOM && !value.contains(char::is_alphanumeric) && !is_secret_parameter(name);
    if padding { (None, piece) } else { (Some(name), value) }
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// A name that sounds like a credential: `x-api-key`, `access_token`.
fn is_secret(name: &str) -> bool {
    let name = plain(name);
    !HARMLESS.contains(&&*name) && (name.ends_with("key") || SECRET.iter().any(|part| name.contains(part)))
}

fn is_secret_parameter(name: &str) -> bool {
    let name = decode(name);
    is_secret(&name) || SECRET_PARAMETERS.contains(&&*plain(&name))
}

/// A header, by its plain name, whose random words are no secrets.
fn is_readable(name: &str) -> bool {
    HARMLESS.contains(&name)
        || READABLE.contains(&name)
        || READABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A JSON web token (RFC 7519), or the value of an `Authorization` header, wherever it stands.
fn is_credential(value: &str) -> bool {
    let bearer = value.get(..WEBSOCKET_BEARER.len()).is_some_and(|s| s.eq_ignore_ascii_case(WEBSOCKET_BEARER));
    bearer || has_scheme(value) || has_jwt(value)
}

/// `Bearer ...`: the value of an `Authorization` header.
fn has_scheme(value: &str) -> bool {
    let scheme = value.trim_start().split_once(' ').map_or("", |(scheme, _)| scheme);
    SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme))
}

/// Three parts in Base64 of which the first is a JSON object, anywhere in `value`.
fn has_jwt(value: &str) -> bool {
    let other = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.');
    value.split(other).any(|run| {
        let begins = |at: &usize| !run[..*at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let start = run.match_indices("eyJ").map(|(at, _)| at).find(begins);
        start.is_some_and(|at| {
            let token = &run[at..];
            token.len() >= RANDOM && token.bytes().filter(|b| *b == b'.').count() >= 2
        })
    })
}

/// A long word with letters and digits, and no UUID, which is what names things.
fn is_random(value: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-_+/=.~".contains(&b);
    let bytes = value.as_bytes();
    bytes.len() >= RANDOM
        && bytes.iter().all(|b| word(*b))
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && !is_uuid(bytes)
}

/// RFC 9562 4.
fn is_uuid(bytes: &[u8]) -> bool {
    let digit = |(i, b): (usize, &u8)| if matches!(i, 8 | 13 | 18 | 23) { *b == b'-' } else { b.is_ascii_hexdigit() };
    bytes.len() == 36 && bytes.iter().enumerate().all(digit)
}
