//! Our heads to those of the `h2` crate and back, for upstreams.
//!
//! h2 has refused upper-case names, connection-specific fields, faults of pseudo-header fields and bodies
//! whose length is not the announced one (RFC 9113 8.1.1, 8.2, 8.3) before a head gets here. What it does
//! not check is checked here: the number of fields.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, response};

use super::check::{list_bound, passes};
use crate::{
    error::{Failure, Reason},
    http::{
        Headers, Known, RequestHead, ResponseHead, Scheme, Version,
        h1::{Limits, trailer_allowed},
        hpack,
    },
};

/// Reads the head of a response.
///
/// # Errors
/// It passes the limits.
pub fn response_from(parts: &response::Parts, limits: &Limits, head: &mut ResponseHead) -> Result<(), Failure> {
    head.clear();
    head.status = parts.status.as_u16();
    head.version = Version::Http2;
    fields_from(&parts.headers, limits, &mut head.headers)
        .map_err(|what| Failure::new(Reason::HttpResponseHeaderSectionSize, what))
}

/// Reads trailers; those that mean something for framing or routing are dropped.
///
/// # Errors
/// They pass the limits.
pub fn trailers_from(map: &HeaderMap, limits: &Limits, trailers: &mut Headers) -> Result<(), &'static str> {
    fields_from(map, limits, trailers)?;
    trailers.retain(|known, name, _| trailer_allowed(known, name));
    Ok(())
}

fn fields_from(map: &HeaderMap, limits: &Limits, headers: &mut Headers) -> Result<(), &'static str> {
    if map.len() > limits.max_header_count {
        return Err("there are more header fields than maxHeaderCount allows");
    }
    for (name, value) in map {
        headers.append(name.as_str().as_bytes(), value.as_bytes());
    }
    if headers.list_size() > list_bound(limits) {
        return Err("the header fields are larger than maxHeaderBytes allows");
    }
    Ok(())
}

/// Fields as HTTP/2 has them: lower-case names, nothing that speaks of a connection (RFC 9113 8.2.2).
#[must_use]
pub fn to_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    // One copy for all values, which share it.
    let memory = Bytes::copy_from_slice(headers.memory());
    for (known, name, place) in headers.places() {
        if !passes(known, &memory[place.clone()]) {
            continue;
        }
        let name = match known {
            Known::Other => HeaderName::from_bytes(name).ok(),
            known => NAMES.get(known as usize).cloned(),
        };
        // Both hold for every field that a codec let in; what a policy adds was checked when it was compiled.
        if let (Some(name), Ok(mut value)) = (name, HeaderValue::from_maybe_shared(memory.slice(place))) {
            // In the table of HPACK they would push out those that come again: h2 sends what is sensitive as literals that are
            // never indexed (RFC 7541 6.2.3).
            value.set_sensitive(hpack::differs(known));
            map.append(name, value);
        }
    }
    map
}

/// Names by their class; that of [`Known::Other`] is a stand-in.
static NAMES: LazyLock<Vec<HeaderName>> = LazyLock::new(|| {
    let known = Known::ALL.iter().map(|known| HeaderName::from_static(known.as_str()));
    std::iter::once(HeaderName::from_static("x")).chain(known).collect()
});

/// The head of a request for an HTTP/2 upstream. `length`: of the body, if it is known.
///
/// # Errors
/// The target cannot be said in HTTP/2.
pub fn request_to(head: &RequestHead, scheme: Scheme, length: Option<u64>) -> Result<Request<()>, Failure> {
    let bad = |_| Failure::new(Reason::HttpRequestError, "the request target cannot be said in HTTP/2");
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let mut uri = Uri::builder();
    if head.method == Method::CONNECT {
        uri = uri.authority(head.authority.as_str());
    } else {
        uri = uri.scheme(scheme.as_str()).path_and_query(head.target.as_str());
        uri = uri.authority(if head.authority.is_empty() { "localhost" } else { &head.authority });
    }
    *request.uri_mut() = uri.build().map_err(bad)?;
    *request.headers_mut() = to_map(&head.headers);
    if let Some(length) = length {
        request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_stands_where_its_class_says() {
        for known in Known::ALL {
            assert_eq!(NAMES[known as usize], known.as_str());
        }
    }

    #[test]
    fn fields_keep_their_order_and_values_and_those_that_differ_stay_out_of_the_table() {
        let mut headers = Headers::new();
        headers.append(b"X-Odd", b"1");
        headers.append(b"Set-Cookie", b"a=1");
        headers.append(b"Connection", b"close");
        headers.append(b"set-cookie", b"b=2");
        headers.append(b"X-Request-Id", b"id");
        let map = to_map(&headers);
        let fields: Vec<_> = map.iter().map(|(n, v)| (n.as_str(), v.as_bytes(), v.is_sensitive())).collect();
        let expected: [(&str, &[u8], bool); 4] = [
            ("x-odd", b"1", false),
            ("set-cookie", b"a=1", false),
            ("set-cookie", b"b=2", false),
            ("x-request-id", b"id", true),
        ];
        assert_eq!(fields, expected);
    }
}
