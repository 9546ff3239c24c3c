//! HTTP/1 messages as tests see them, and their reading from a byte stream.
//!
//! The parser is deliberately naive and strict: it takes what a correct peer sends and fails on the rest,
//! and it keeps order and case of header fields, because those are asserted.

use std::io::{self, BufRead, Read};

/// Header fields in order.
pub type Fields = Vec<(String, String)>;

/// A request as an origin got it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Target as on the wire.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// In order, case kept.
    pub headers: Fields,
    /// The whole body.
    pub body: Vec<u8>,
    /// After a chunked body.
    pub trailers: Fields,
    /// Which connection of the origin it came on, from 0.
    pub connection: usize,
}

/// A response as a client got it.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// `HTTP/1.1`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// In order, case kept.
    pub headers: Fields,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// After a chunked body.
    pub trailers: Fields,
    /// 1xx heads before it.
    pub interim: Vec<(u16, Fields)>,
    /// False if the connection ended within the body.
    pub whole: bool,
}

/// A response for an origin to send.
#[derive(Debug, Clone)]
pub struct Response {
    head: String,
    fields: Fields,
    chunks: Option<Vec<Vec<u8>>>,
    body: Vec<u8>,
    trailers: Fields,
    bytes: Option<Vec<u8>>,
    /// Whether the connection closes after it.
    pub close: bool,
}

/// The first value of `name`, in any case.
#[must_use]
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

impl Request {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads head and body. `None`: the peer closed before the first byte.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(mut request) = Self::read_head(from)? else { return Ok(None) };
        request.read_body(from)?;
        Ok(Some(request))
    }

    /// Reads the head alone.
    pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(line) = line(from)? else { return Ok(None) };
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version)) = (method, target, version) else {
            return Err(broken(&format!("request line {line:?}")));
        };
        Ok(Some(Self { method, target, version, headers: fields(from)?, ..Self::default() }))
    }

    /// Reads the body that the head announces.
    pub fn read_body(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        if field(&self.headers, "transfer-encoding").is_some() {
            let whole = chunks(from, &mut self.body, &mut self.trailers)?;
            return if whole { Ok(()) } else { Err(broken("request body ended early")) };
        }
        let length = field(&self.headers, "content-length").map_or(Ok(0), str::parse);
        let length: usize = length.map_err(|_| broken("content-length"))?;
        self.body.resize(length, 0);
        from.read_exact(&mut self.body)
    }
}

impl Reply {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Reads the answer to a request of `method`, interim answers before it included.
    pub fn read(from: &mut impl BufRead, method: &str) -> io::Result<Self> {
        let mut reply = Self::read_head(from)?;
        let mut interim = Vec::new();
        while (100..200).contains(&reply.status) && reply.status != 101 {
            interim.push((reply.status, reply.headers));
            reply = Self::read_head(from)?;
        }
        reply.interim = interim;
        reply.read_body(from, method)?;
        Ok(reply)
    }

    /// Reads one head.
    pub fn read_head(from: &mut impl BufRead) -> io::Result<Self> {
        let Some(line) = line(from)? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let (version, rest) = line.split_once(' ').ok_or_else(|| broken(&line))?;
        let status = rest.get(..3).and_then(|s| s.parse().ok()).ok_or_else(|| broken(&line))?;
        Ok(Self { version: version.to_owned(), status, headers: fields(from)?, ..Self::default() })
    }

    /// Reads the body that the head announces; an early end is not an error but [`whole`](Self::whole) = false.
    pub fn read_body(&mut self, from: &mut impl BufRead, method: &str) -> io::Result<()> {
        self.whole = true;
        if method == "HEAD" || matches!(self.status, 101 | 204 | 304) {
            return Ok(());
        }
        if field(&self.headers, "transfer-encoding").is_some() {
            self.whole = chunks(from, &mut self.body, &mut self.trailers)?;
        } else if let Some(length) = field(&self.headers, "content-length") {
            let length: u64 = length.parse().map_err(|_| broken("content-length"))?;
            let read = tolerant(from.take(length).read_to_end(&mut self.body))?;
            self.whole = read as u64 == length || self.body.len() as u64 == length;
        } else {
            tolerant(from.read_to_end(&mut self.body))?;
        }
        Ok(())
    }
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            head: format!("HTTP/1.1 {status} X\r\n"),
            fields: Vec::new(),
            chunks: None,
            body: Vec::new(),
            trailers: Vec::new(),
            bytes: None,
            close: false,
        }
    }

    /// 200 with this body.
    #[must_use]
    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// Exactly these bytes, and then the connection closes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: Some(bytes.into()), close: true, ..Self::new(200) }
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A chunked body.
    #[must_use]
    pub fn chunked(mut self, chunks: &[&str]) -> Self {
        self.chunks = Some(chunks.iter().map(|c| c.as_bytes().to_vec()).collect());
        self
    }

    /// A trailer after a chunked body.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closes the connection afterwards, and says so.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self.header("Connection", "close")
    }

    /// As on the wire, in answer to `method`.
    #[must_use]
    pub fn wire(&self, method: &str) -> Vec<u8> {
        if let Some(bytes) = &self.bytes {
            return bytes.clone();
        }
        let mut out = self.head.clone().into_bytes();
        let mut put = |name: &str, value: &str| out.extend(format!("{name}: {value}\r\n").into_bytes());
        for (name, value) in &self.fields {
            put(name, value);
        }
        let bodyless = self.head.contains(" 204 ") || self.head.contains(" 304 ");
        match &self.chunks {
            Some(_) => put("Transfer-Encoding", "chunked"),
            None if !bodyless && field(&self.fields, "content-length").is_none() => {
                put("Content-Length", &self.body.len().to_string());
            }
            None => {}
        }
        out.extend(b"\r\n");
        if method == "HEAD" || bodyless {
            return out;
        }
        if let Some(chunks) = &self.chunks {
            for chunk in chunks {
                out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n");
            for (name, value) in &self.trailers {
                out.extend(format!("{name}: {value}\r\n").into_bytes());
            }
            out.extend(b"\r\n");
        } else {
            out.extend(&self.body);
        }
        out
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text =
        bytes.strip_suffix(b"\r\n").ok_or_else(|| broken(&format!("line {:?}", String::from_utf8_lossy(&bytes))))?;
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}

fn fields(from: &mut impl BufRead) -> io::Result<Fields> {
    let mut fields = Vec::new();
    loop {
        let line = line(from)?.ok_or_else(|| broken("head ended early"))?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads a chunked body; false if it ends early.
fn chunks(from: &mut impl BufRead, body: &mut Vec<u8>, trailers: &mut Fields) -> io::Result<bool> {
    loop {
        let head = match line(from) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => return tolerant(Err(error)).map(|_| false),
        };
        let size = head.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size.trim(), 16).map_err(|_| broken(&format!("chunk size {head:?}")))?;
        if size == 0 {
            *trailers = fields(from)?;
            return Ok(true);
        }
        if tolerant(from.take(size).read_to_end(body))? as u64 != size || line(from)?.is_none() {
            return Ok(false);
        }
    }
}

/// A reset connection ends a message early, as a closed one does.
fn tolerant(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidData) => Ok(0),
        other => other,
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
