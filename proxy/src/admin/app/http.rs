//! An HTTP request to the app, as the kubelet makes it.
//!
//! One connection for each, closed after the answer. Redirects are followed as long as they stay with the host that was
//! asked, ten at most; one that leads elsewhere counts as success and is not followed, so that an app cannot
//! send its proxy anywhere. The proxy's own ports are not followed to either.

use std::net::IpAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery},
};
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
};

use super::{
    connect,
    target::{Http, Places, Purpose, path_of},
    tls,
};
use crate::admin::routes::{self, Answer};

/// Redirects that are followed, as Go's client does.
const MAX_REDIRECTS: usize = 10;
/// Bytes of a probe's answer that must come whole; what is behind them is not read. The kubelet's own bound.
const PROBE_BYTES: usize = 10 * 1024;
/// Largest answer to a scrape: an app with 100,000 series writes about as much. It is held until it is complete.
const SCRAPE_BYTES: usize = 16 * 1024 * 1024;
/// Headers of a scrape that are for the app.
const PASSED: [HeaderName; 4] = [header::ACCEPT, header::ACCEPT_ENCODING, header::AUTHORIZATION, header::USER_AGENT];
/// And this one, which tells it how long Prometheus waits.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Where a request goes.
struct Place {
    tls: bool,
    /// As it is named in the URL: the pod's address, or what the probe says.
    host: String,
    port: u16,
    loopback: bool,
    path: PathAndQuery,
}

/// Asks; what it says if that is a success.
///
/// # Errors
/// Why it is none.
pub(super) async fn probe(
    places: &Places,
    target: &Http,
    agent: &HeaderValue,
    purpose: Purpose,
) -> Result<String, String> {
    let mut headers = target.headers.clone();
    let own = headers.remove(header::HOST);
    unless_said(&mut headers, header::USER_AGENT, agent.clone());
    unless_said(&mut headers, header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut named = own.clone();
    let mut place = first(places, target, target.path.clone());
    for _ in 0..=MAX_REDIRECTS {
        let (response, connection) = ask(places, &place, &headers, named.as_ref()).await?;
        let status = response.status();
        if purpose == Purpose::Hook {
            return Ok(format!("HTTP status {}", status.as_u16()));
        }
        let next = redirected(&response).map(|location| follow(places, &place, location)).transpose()?.flatten();
        let whole = body(response, PROBE_BYTES).await;
        drop(connection);
        if whole.is_err_and(|e| !e.is::<LengthLimitError>()) {
            return Err(format!("HTTP status {}, and its answer broke off", status.as_u16()));
        }
        let Some((next, relative)) = next else {
            let words = format!("HTTP status {}", status.as_u16());
            return if status.is_success() || status.is_redirection() { Ok(words) } else { Err(words) };
        };
        // A name that was asked for by a header is kept by redirects within it, as Go does.
        named = own.clone().filter(|_| relative);
        place = next;
    }
    Err(format!("it redirects more than {MAX_REDIRECTS} times"))
}

/// Asks for metrics, and passes on what comes.
///
/// # Errors
/// The app cannot be asked, or its answer is too large.
pub(super) async fn scrape(
    places: &Places,
    target: &Http,
    asked: &HeaderMap,
    query: Option<&str>,
    permit: OwnedSemaphorePermit,
) -> Result<Answer, String> {
    let mut headers = target.headers.clone();
    let named = headers.remove(header::HOST);
    for name in PASSED.into_iter().chain([HeaderName::from_static(SCRAPE_TIMEOUT)]) {
        if let Some(value) = asked.get(&name) {
            unless_said(&mut headers, name, value.clone());
        }
    }
    let path = match (query.filter(|q| !q.is_empty()), target.path.query()) {
        (None, _) => target.path.clone(),
        (Some(query), own) => {
            let own = own.map(|own| format!("{own}&")).unwrap_or_default();
            path_of(&format!("{}?{own}{query}", target.path.path())).ok_or("its query cannot be passed on")?
        }
    };
    let place = first(places, target, path);
    let (response, _connection) = ask(places, &place, &headers, named.as_ref()).await?;
    let (status, head) = (response.status(), response.headers().clone());
    let bytes = body(response, SCRAPE_BYTES).await.map_err(|e| match e.is::<LengthLimitError>() {
        true => format!("its answer has more than {SCRAPE_BYTES} bytes"),
        false => format!("its answer broke off: {e}"),
    })?;
    let held = Bytes::from_owner(Held { bytes, _permit: permit });
    let mut answer = routes::finish_body(status, "application/octet-stream", Full::new(held));
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        match head.get(&name) {
            Some(value) => drop(answer.headers_mut().insert(name, value.clone())),
            None => drop(answer.headers_mut().remove(name)),
        }
    }
    Ok(answer)
}

/// What was scraped, and its place, which it keeps until it has been written: a peer that does not read takes no more memory
/// than there are places.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn first(places: &Places, target: &Http, path: PathAndQuery) -> Place {
    let host = if target.host.is_empty() { host_of(places.ip) } else { target.host.clone() };
    Place { tls: target.tls, host, port: target.port, loopback: target.loopback, path }
}

fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Sets a default. A header that is said to be empty is not sent at all: that is how the kubelet has it.
fn unless_said(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.get(&name) {
        Some(said) if said.is_empty() => drop(headers.remove(&name)),
        Some(_) => {}
        None => drop(headers.insert(name, value)),
    }
}

/// Ends the connection with the answer.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask(
    places: &Places,
    place: &Place,
    headers: &HeaderMap,
    named: Option<&HeaderValue>,
) -> Result<(Response<Incoming>, Connection), String> {
    let tcp = connect(places.at(place.port, place.loopback)).await?;
    let request = request(place, headers, named)?;
    if place.tls {
        let bare = place.host.trim_start_matches('[').trim_end_matches(']');
        exchange(tls::connect(tcp, bare).await?, request).await
    } else {
        exchange(tcp, request).await
    }
}

fn request(place: &Place, headers: &HeaderMap, named: Option<&HeaderValue>) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(place.path.clone());
    let own = HeaderValue::from_str(&format!("{}:{}", place.host, place.port));
    let host = named.cloned().map_or(own, Ok).map_err(|_| format!("{:?} is no host", place.host))?;
    request.headers_mut().insert(header::HOST, host);
    for (name, value) in headers {
        // What frames a message is not for anybody to say.
        if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn exchange<S>(io: S, request: Request<Empty<Bytes>>) -> Result<(Response<Incoming>, Connection), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |e: hyper::Error| format!("no HTTP answer: {e}");
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broke)?;
    let connection = Connection(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the app broke");
        }
    }));
    Ok((send.send_request(request).await.map_err(broke)?, connection))
}

/// What comes, up to `most` bytes.
async fn body(response: Response<Incoming>, most: usize) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Limited::new(response.into_body(), most).collect().await.map(http_body_util::Collected::to_bytes)
}

/// Where the answer wants to be followed to.
fn redirected(response: &Response<Incoming>) -> Option<&HeaderValue> {
    let follows = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    response.headers().get(header::LOCATION).filter(|location| follows && !location.is_empty())
}

/// The next place, and whether it is named relative to this one; `None`: it is on another host, and not followed.
fn follow(places: &Places, from: &Place, location: &HeaderValue) -> Result<Option<(Place, bool)>, String> {
    let wrong = || format!("it redirects to {location:?}, which is no URL");
    let text = location.to_str().map_err(|_| wrong())?;
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => (Some(scheme), Some(rest)),
        _ => (None, text.strip_prefix("//")),
    };
    let tls = match scheme.map(str::to_ascii_lowercase).as_deref() {
        None => from.tls,
        Some("http") => false,
        Some("https") => true,
        Some(_) => return Ok(None),
    };
    let Some(rest) = rest else {
        let path = path_of(&relative(from.path.path(), text)).ok_or_else(wrong)?;
        return Ok(Some((
            Place { tls, host: from.host.clone(), port: from.port, loopback: from.loopback, path },
            true,
        )));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority: Authority = rest[..end].parse().map_err(|_| wrong())?;
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    if !authority.host().eq_ignore_ascii_case(&from.host) || places.is_own(port) {
        return Ok(None);
    }
    let path = path_of(&rest[end..]).ok_or_else(wrong)?;
    Ok(Some((Place { tls, host: from.host.clone(), port, loopback: from.loopback, path }, false)))
}

/// A reference without host, seen from `base` (RFC 3986 5.2.2, without dot segments, which servers resolve).
fn relative(base: &str, reference: &str) -> String {
    match reference.as_bytes().first() {
        Some(b'/') => reference.to_owned(),
        Some(b'?' | b'#') | None => format!("{base}{reference}"),
        Some(_) => format!("{}/{reference}", base.rsplit_once('/').map_or("", |(directory, _)| directory)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_with_the_host() {
        let places = Places { own: vec![9990], ..Places::default() };
        let from = |host: &str| Place {
            tls: false,
            host: host.into(),
            port: 8080,
            loopback: false,
            path: "/a/b?c".parse().unwrap(),
        };
        let to = |host: &str, location: &str| {
            let location = HeaderValue::from_str(location).unwrap();
            follow(&places, &from(host), &location).unwrap().map(|(place, relative)| {
                (
                    format!(
                        "{}://{}:{}{}",
                        if place.tls { "https" } else { "http" },
                        place.host,
                        place.port,
                        place.path
                    ),
                    relative,
                )
            })
        };
        for (location, expected) in [
            ("/x?y", Some(("http://10.0.0.1:8080/x?y", true))),
            ("x", Some(("http://10.0.0.1:8080/a/x", true))),
            ("?q", Some(("http://10.0.0.1:8080/a/b?q", true))),
            ("http://10.0.0.1/x", Some(("http://10.0.0.1:80/x", false))),
            ("https://10.0.0.1:8443", Some(("https://10.0.0.1:8443/", false))),
            ("//10.0.0.1:81/x", Some(("http://10.0.0.1:81/x", false))),
            ("http://10.0.0.2:8080/x", None),
            ("http://10.0.0.1:9990/app/web/livez", None),
            ("https://elsewhere/", None),
            ("ftp://10.0.0.1/", None),
        ] {
            let expected = expected.map(|(url, relative)| (url.to_owned(), relative));
            assert_eq!(to("10.0.0.1", location), expected, "{location}");
        }
        assert_eq!(to("[fd00::1]", "http://[FD00::1]:81/").unwrap().0, "http://[fd00::1]:81/");
        let bad = HeaderValue::from_bytes(b"http://\xff/").unwrap();
        assert!(follow(&places, &from("a"), &bad).is_err());
    }
}
