//! The request that `explain` is asked about, from a command line or a query string.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderName, HeaderValue, Method, Uri};

use crate::matching::{
    RequestView, is_grpc_type, names_alike,
    normal::{self, PathUse, Unclear},
    split_authority,
};

use super::ExplainError;

/// A request that is only thought of.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    method: Method,
    authority: String,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    from: Option<String>,
    address: IpAddr,
}

impl ExplainRequest {
    /// A request for `url` (`http://HOST[:PORT]/PATH`, `HOST/PATH`, or `/PATH`), as curl takes it.
    ///
    /// `headers` are `NAME: VALUE`; `host` among them wins over the URL's. `from` is the SPIFFE ID that
    /// the caller has proven. Its address is `127.0.0.1` until [`ExplainRequest::from_address`] says otherwise.
    ///
    /// # Errors
    /// Whatever could not be sent as a request.
    pub fn new(method: &str, url: &str, headers: &[String], from: Option<&str>) -> Result<Self, ExplainError> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| ExplainError::Method(method.to_owned()))?;
        let (mut authority, target) = split_url(url)?;
        let mut fields = Vec::with_capacity(headers.len());
        for header in headers {
            let bad = || ExplainError::Header(header.clone());
            let (name, value) = header.split_once(':').ok_or_else(bad)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
            if name == http::header::HOST {
                authority = value.to_str().map_err(|_| bad())?.to_owned();
            } else {
                fields.push((name, value));
            }
        }
        if let Some(from) = from.filter(|from| !from.starts_with("spiffe://")) {
            return Err(ExplainError::Identity(from.to_owned()));
        }
        let from = from.map(str::to_owned);
        Ok(Self { method, authority, target, headers: fields, from, address: IpAddr::from([127, 0, 0, 1]) })
    }

    /// The same from another address.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// The same with path and host in normal form.
    ///
    /// # Errors
    /// Why the path has none.
    pub fn normalised(&self, used: PathUse) -> Result<Self, Unclear> {
        let mut normal = self.clone();
        if used == PathUse::Forward {
            return Ok(normal);
        }
        let path = self.path();
        if let Some(text) = normal::path(path, used)? {
            normal.target.replace_range(..path.len(), &text);
        }
        if let Some(text) = normal::authority(&self.authority) {
            normal.authority = text;
        }
        Ok(normal)
    }

    /// The identity of the caller.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// The address of the caller.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl RequestView for ExplainRequest {
    fn method(&self) -> &Method {
        &self.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.headers.iter().filter(|(n, _)| n.as_str() == name).map(|(_, value)| value.as_bytes());
        let Some(first) = values.next() else {
            return (name == "host").then_some(Cow::Borrowed(self.authority.as_bytes()));
        };
        Some(values.fold(Cow::Borrowed(first), |mut joined, value| {
            let bytes = joined.to_mut();
            bytes.extend_from_slice(b", ");
            bytes.extend_from_slice(value);
            joined
        }))
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut alike = self.headers.iter().filter(|(n, _)| names_alike(n.as_str().as_bytes(), name.as_bytes()));
        alike.any(|(_, value)| holds(value.as_bytes()))
    }

    fn is_grpc(&self) -> bool {
        self.headers
            .iter()
            .find(|(n, _)| n == http::header::CONTENT_TYPE)
            .is_some_and(|(_, v)| is_grpc_type(v.as_bytes()))
    }
}

/// Authority (without user name) and target of `url`; its fragment never leaves a client.
fn split_url(url: &str) -> Result<(String, String), ExplainError> {
    let bad = |why: &str| ExplainError::Url(url.to_owned(), why.to_owned());
    let url = url.split('#').next().unwrap_or_default();
    let uri: Result<Uri, _> = if url.contains("://") || url.starts_with('/') || url == "*" {
        url.parse()
    } else {
        format!("http://{url}").parse()
    };
    let uri = uri.map_err(|error| bad(&error.to_string()))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("the scheme is neither http nor https"));
    }
    let authority = uri.authority().map_or("", |a| a.as_str());
    let authority = authority.rsplit('@').next().unwrap_or_default();
    if uri.scheme().is_some() && split_authority(authority).0.is_empty() {
        return Err(bad("it has no host"));
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
    Ok((authority.to_owned(), target))
}
