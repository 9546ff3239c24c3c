//! What the filters of a rule do to a head: header edits, rewrite, redirect; and `Max-Forwards`.
//!
//! In place and in the head's own buffers, the location of a redirect excepted. A path always starts with
//! `/` afterwards, and its query is never touched.

use http::Method;
use outrigger_config::model::{HeaderEdits, PathEdit, PathMatch, Redirect, Rewrite};

use crate::http::{Headers, Known, RequestHead};

#[cfg(test)]
mod tests;

/// Applies the edits of a response: set, then add, then remove.
pub fn apply(edits: &HeaderEdits, headers: &mut Headers) {
    for (name, value) in &edits.set {
        headers.set(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in &edits.add {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    for name in &edits.remove {
        headers.remove(name.as_bytes());
    }
}

/// Applies the edits of a request. `host` is its authority; it can be changed, and not be removed.
pub fn apply_to_request(edits: &HeaderEdits, head: &mut RequestHead) {
    if edits.is_empty() {
        return;
    }
    apply(edits, &mut head.headers);
    // Rare, so looked at afterwards: no `host` field stays beside the authority.
    let host = edits.set.iter().chain(&edits.add).rfind(|(name, _)| &**name == "host");
    if let Some((_, value)) = host {
        head.headers.remove_known(Known::Host);
        head.authority.clear();
        head.authority.push_str(value);
    }
}

/// Carries out `URLRewrite`. `matched` is the condition that the request's path fulfilled.
pub fn rewrite(head: &mut RequestHead, rewrite: &Rewrite, matched: &PathMatch) {
    if let Some(hostname) = &rewrite.hostname {
        head.authority.clear();
        head.authority.push_str(hostname);
    }
    if let Some(edit) = &rewrite.path {
        edit_path(&mut head.target, edit, matched);
    }
}

/// Status and `location` of `RequestRedirect`.
///
/// `listener_port` is the port that the client has addressed: that of the listener, or that of the
/// original destination where traffic is captured. It is taken where neither `port` nor `scheme` is
/// given (Gateway API `HTTPRequestRedirectFilter.port`); the scheme's own port is never written.
#[must_use]
pub fn redirect(head: &RequestHead, redirect: &Redirect, matched: &PathMatch, listener_port: u16) -> (u16, String) {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme.as_str());
    let well_known = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let derived = if redirect.scheme.is_some() { well_known } else { None };
    let port = redirect.port.or(derived).unwrap_or(listener_port);
    let mut path = head.target.clone();
    if let Some(edit) = &redirect.path {
        edit_path(&mut path, edit, matched);
    }
    let host = redirect.hostname.as_deref().unwrap_or(head.host());
    // Nothing but a path belongs behind a host: not the `*` of OPTIONS.
    let path = if path.starts_with('/') { &*path } else { "/" };
    // A request of HTTP/1.0 may name no host; a reference without one leads back to where it came from.
    let location = if host.is_empty() {
        path.to_owned()
    } else if well_known == Some(port) {
        format!("{scheme}://{host}{path}")
    } else {
        format!("{scheme}://{host}:{port}{path}")
    };
    (redirect.status, location)
}

/// What `Max-Forwards` asks of a proxy (RFC 9110 7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopLimit {
    /// Forward; the field, if there was one, has been counted down.
    Forward,
    /// The request ends here: the proxy is its final recipient.
    Answer,
}

/// Counts `Max-Forwards` down for TRACE and OPTIONS; other methods, and values that are no number, pass.
pub fn hop_limit(head: &mut RequestHead) -> HopLimit {
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return HopLimit::Forward;
    }
    let Some(value) = head.headers.get_known(Known::MaxForwards) else { return HopLimit::Forward };
    let number = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    // More than fits in 32 bits is lowered to that, which the RFC allows.
    match number.map(|number| (number, number.parse::<u32>())) {
        None | Some(("", _)) => HopLimit::Forward,
        Some((_, Ok(0))) => HopLimit::Answer,
        Some((_, hops)) => {
            let left = hops.map_or(u32::MAX, |hops| hops - 1);
            head.headers.set_known(Known::MaxForwards, itoa::Buffer::new().format(left).as_bytes());
            HopLimit::Forward
        }
    }
}

/// Changes the path of `target` and keeps its query. `*` and the empty target of CONNECT stay.
fn edit_path(target: &mut String, edit: &PathEdit, matched: &PathMatch) {
    if !target.starts_with('/') {
        return;
    }
    let path_end = target.find('?').unwrap_or(target.len());
    match edit {
        PathEdit::ReplaceFull(path) => target.replace_range(..path_end, path),
        PathEdit::ReplacePrefix(replacement) => {
            // Only a prefix can be replaced; the model has it under no other condition.
            let PathMatch::Prefix(prefix) = matched else { return };
            let prefix_end = prefix.strip_suffix('/').unwrap_or(prefix).len();
            if prefix_end > path_end || !target.is_char_boundary(prefix_end) {
                return;
            }
            // What remains begins with a slash or is empty, so a slash at the end of the replacement
            // would be doubled, unless it is the end of the path.
            let replacement: &str =
                if prefix_end < path_end { replacement.strip_suffix('/').unwrap_or(replacement) } else { replacement };
            target.replace_range(..prefix_end, replacement);
        }
    }
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
}
