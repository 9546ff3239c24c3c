//! From the fields of a header block to the head of a request, or to trailers (RFC 9113 8.1 to 8.3).

use http::Method;

use crate::{
    error::{Failure, Reason},
    http::{
        Headers, Known, RequestHead, Scheme, Version,
        h1::{Limits, trailer_allowed, valid_authority},
        h2::check::{content_length, list_bound, passes},
        hpack::{Class, Field, Pseudo},
    },
};

/// The longest method that is taken, as in HTTP/1.
const MAX_METHOD: usize = 32;

/// Reads the fields of one block, one after the other. Those of a block that passes the limits are counted and no longer
/// kept: the decoder has to see the whole block.
pub(super) struct Reader<'a> {
    head: &'a mut RequestHead,
    limits: Limits,
    /// Pseudo-header fields that were there.
    seen: u8,
    /// A regular field was there: pseudo-header fields come before (RFC 9113 8.3).
    regular: bool,
    malformed: bool,
    size: usize,
    count: usize,
    /// What makes it unfit to be forwarded, though HTTP/2 allows it.
    refused: Option<Failure>,
}

/// What a block says.
#[derive(Debug)]
pub(super) enum Block {
    /// It is no HTTP message: a stream error (RFC 9113 8.1.1).
    Malformed,
    /// It is to be answered with this.
    Refused(Failure),
    /// A request, with its `content-length`, which is no longer among the fields.
    Request(Option<u64>),
}

const fn bit(pseudo: Pseudo) -> u8 {
    1 << pseudo as u8
}

impl<'a> Reader<'a> {
    /// Reads into `head`, which is cleared.
    pub(super) fn new(head: &'a mut RequestHead, limits: Limits) -> Self {
        head.clear();
        head.version = Version::Http2;
        Self { head, limits, seen: 0, regular: false, malformed: false, size: 0, count: 0, refused: None }
    }

    /// Takes the next field.
    #[inline]
    pub(super) fn field(&mut self, field: &Field<'_>) {
        // As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 6.5.2).
        self.size += field.name.len() + field.value.len() + 32;
        self.malformed |= !field.valid;
        match field.class {
            Class::Regular(known) => self.regular(known, field),
            Class::Pseudo(pseudo) => self.pseudo(pseudo, field.value),
            Class::UnknownPseudo => self.malformed = true,
        }
    }

    #[inline]
    fn regular(&mut self, known: Known, field: &Field<'_>) {
        self.regular = true;
        self.count += 1;
        // `host` is looked at beside `:authority`.
        self.malformed |= known != Known::Host && !passes(known, field.value);
        if !self.malformed && !self.too_large() {
            field.append_to(&mut self.head.headers);
        }
    }

    fn too_large(&self) -> bool {
        self.count > self.limits.max_header_count || self.size > list_bound(&self.limits)
    }

    #[inline]
    fn pseudo(&mut self, pseudo: Pseudo, value: &[u8]) {
        self.malformed |= self.regular || self.seen & bit(pseudo) != 0;
        self.seen |= bit(pseudo);
        if self.malformed || self.too_large() {
            return;
        }
        match pseudo {
            Pseudo::Method => match Method::from_bytes(value) {
                Ok(method) if value.len() <= MAX_METHOD => self.head.method = method,
                _ => self.malformed = true,
            },
            Pseudo::Scheme => {
                self.head.scheme = if value == b"https" { Scheme::Https } else { Scheme::Http };
                self.malformed |= value.is_empty();
            }
            Pseudo::Path => self.path(value),
            Pseudo::Authority => match valid_authority(value) {
                Some(authority) => self.head.authority.push_str(authority),
                None => self.refuse(":authority is not HOST or HOST:PORT"),
            },
            // A response's; and extended CONNECT (RFC 8441), which was not offered.
            Pseudo::Status | Pseudo::Protocol => self.malformed = true,
        }
    }

    fn path(&mut self, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok("") => self.malformed = true,
            // A fragment is no part of a request target (RFC 9112 3.2 has the same rule).
            Ok(text) if text.bytes().fold(true, |good, b| good & b.is_ascii_graphic() & (b != b'#')) => {
                self.head.target.push_str(text);
            }
            _ => self.refuse(":path is not visible ASCII without #"),
        }
    }

    fn refuse(&mut self, what: &'static str) {
        self.refused.get_or_insert_with(|| Failure::new(Reason::HttpRequestError, what));
    }

    /// The block is over.
    pub(super) fn finish(mut self) -> Block {
        const REQUEST: u8 = bit(Pseudo::Method) | bit(Pseudo::Scheme) | bit(Pseudo::Path);
        let connect = self.head.method == Method::CONNECT && self.seen & bit(Pseudo::Method) != 0;
        let needed = if connect { bit(Pseudo::Method) | bit(Pseudo::Authority) } else { REQUEST };
        let forbidden = if connect { REQUEST & !bit(Pseudo::Method) } else { 0 };
        // Of a block that is too large not all was looked at.
        let missing = if self.too_large() { 0 } else { needed & !self.seen };
        if self.malformed || missing | (self.seen & forbidden) != 0 {
            return Block::Malformed;
        }
        if self.too_large() {
            let what = "the header fields are larger or more than maxHeaderBytes and maxHeaderCount allow";
            return Block::Refused(Failure::new(Reason::RequestHeaderSize, what));
        }
        if let Some(failure) = self.refused.take() {
            return Block::Refused(failure);
        }
        let target = &self.head.target;
        let asterisk = target == "*" && self.head.method == Method::OPTIONS;
        if !(connect || asterisk || target.starts_with('/')) {
            let what = ":path neither starts with a slash, nor is * with OPTIONS";
            return Block::Refused(Failure::new(Reason::HttpRequestError, what));
        }
        self.fields()
    }

    /// What fields mean together.
    fn fields(self) -> Block {
        let head = self.head;
        let mut length = None;
        if head.headers.has(Known::ContentLength) {
            length = content_length(&head.headers);
            if length.is_none() {
                return Block::Malformed;
            }
            head.headers.remove_known(Known::ContentLength);
        }
        if head.headers.has(Known::Host)
            && let Err(what) = host_into_authority(head)
        {
            return Block::Refused(Failure::new(Reason::HttpRequestError, what));
        }
        join_crumbs(&mut head.headers);
        Block::Request(length)
    }
}

/// RFC 9113 8.3.1: a `host` field beside `:authority` must say the same.
fn host_into_authority(head: &mut RequestHead) -> Result<(), &'static str> {
    let mut hosts = head.headers.all_known(Known::Host);
    let (host, more) = (hosts.next().unwrap_or_default(), hosts.next().is_some());
    drop(hosts);
    if more {
        return Err("there is more than one host field");
    }
    let host = valid_authority(host).ok_or("the host field is not HOST or HOST:PORT")?.to_owned();
    if head.authority.is_empty() {
        head.authority = host;
    } else if !head.authority.eq_ignore_ascii_case(&host) {
        return Err(":authority and host name different hosts");
    }
    head.headers.remove_known(Known::Host);
    Ok(())
}

/// RFC 9113 8.2.3: crumbs of a cookie become one field before they leave HTTP/2.
fn join_crumbs(headers: &mut Headers) {
    if headers.has(Known::Cookie) && headers.all_known(Known::Cookie).nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.all_known(Known::Cookie).collect();
        let joined = crumbs.join(&b"; "[..]);
        headers.set_known(Known::Cookie, &joined);
    }
}

/// Trailers, which have no pseudo-header fields (RFC 9113 8.1); those that mean something for framing or routing are left
/// out.
pub(super) struct Trailers {
    fields: Headers,
    limits: Limits,
    malformed: bool,
    size: usize,
    count: usize,
}

impl Trailers {
    pub(super) fn new(limits: Limits) -> Self {
        Self { fields: Headers::new(), limits, malformed: false, size: 0, count: 0 }
    }

    pub(super) fn field(&mut self, field: &Field<'_>) {
        self.size += field.name.len() + field.value.len() + 32;
        self.count += 1;
        match field.class {
            Class::Regular(known) if field.valid => {
                if !self.too_large() && trailer_allowed(known, field.name) {
                    field.append_to(&mut self.fields);
                }
            }
            _ => self.malformed = true,
        }
    }

    fn too_large(&self) -> bool {
        self.count > self.limits.max_header_count || self.size > list_bound(&self.limits)
    }

    /// `None`: they are malformed, or pass the limits.
    pub(super) fn finish(self) -> Option<Headers> {
        (!self.malformed && !self.too_large()).then_some(self.fields)
    }
}
