//! Matches of route rules: what a request must look like, and which of two matches decides.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use crate::{
    compile::{Context, MAX_PATTERNS},
    documents::{
        GrpcMethodMatch, GrpcRouteMatch, HttpPathMatch, HttpRouteMatch, MethodWord, PathMatchWord, Spanned,
        ValueMatchSpec, ValueMatchWord,
    },
    load::Loaded,
    model::{PathMatch, Pattern, RouteMatch, StringMatch, ValueMatch},
    yaml::excerpt,
};

/// Compiled size of one regular expression. An expression of routes is small; one that is not is a mistake or an attack.
const REGEX_BYTES: usize = 256 << 10;
/// Text of one regular expression, as the Gateway API bounds it.
const REGEX_TEXT: usize = 1024;

impl Context<'_> {
    pub(super) fn http_match(&mut self, at: &Loaded, spec: &HttpRouteMatch) -> RouteMatch {
        let path = spec.path.as_ref().and_then(|p| self.path(at, p));
        RouteMatch {
            hostnames: Vec::new(),
            path: path.unwrap_or_else(every_path),
            method: spec.method.as_ref().map(|m| method(m.inner)),
            headers: self.value_matches(at, &spec.headers, true),
            query: self.value_matches(at, &spec.query_params, false),
            grpc: false,
            rule: 0,
        }
    }

    pub(super) fn grpc_match(&mut self, at: &Loaded, spec: &GrpcRouteMatch) -> RouteMatch {
        let path = spec.method.as_ref().and_then(|m| self.grpc_path(at, m));
        RouteMatch {
            hostnames: Vec::new(),
            path: path.unwrap_or_else(every_path),
            method: None,
            headers: self.value_matches(at, &spec.headers, true),
            query: Vec::new(),
            grpc: true,
            rule: 0,
        }
    }

    fn path(&mut self, at: &Loaded, spec: &Spanned<HttpPathMatch>) -> Option<PathMatch> {
        let unknown = match &spec.r#type {
            Some(word) => word.is_stand_in(),
            None => at.may_have(spec.mark, &["type"]),
        };
        if unknown {
            return None;
        }
        let kind = spec.r#type.as_ref().map_or(PathMatchWord::PathPrefix, |t| t.inner);
        let Some(value) = &spec.value else {
            if kind == PathMatchWord::PathPrefix {
                return Some(every_path());
            }
            self.missing(at, spec.mark, &["value"], "missing field `value`: the path that this type compares with");
            return None;
        };
        if kind == PathMatchWord::RegularExpression {
            return self.pattern(at, value).map(PathMatch::Regex);
        }
        if let Some(why) = bad_path(value) {
            self.fault(at, value.mark, format!("`{}` matches no path: {why}", excerpt(value)));
            return None;
        }
        Some(match kind {
            PathMatchWord::Exact => PathMatch::Exact(value.as_str().into()),
            _ => PathMatch::Prefix(match value.trim_end_matches('/') {
                "" => "/".into(),
                trimmed => trimmed.into(),
            }),
        })
    }

    /// `/SERVICE/METHOD`; what is not said is any.
    fn grpc_path(&mut self, at: &Loaded, spec: &Spanned<GrpcMethodMatch>) -> Option<PathMatch> {
        if spec.service.is_none() && spec.method.is_none() {
            self.missing(at, spec.mark, &["service", "method"], "`method` needs `service`, `method` or both");
            return None;
        }
        let unknown = match &spec.r#type {
            Some(word) => word.is_stand_in(),
            None => at.may_have(spec.mark, &["type"]),
        };
        if unknown {
            return None;
        }
        if spec.r#type.as_ref().is_some_and(|t| t.inner == ValueMatchWord::RegularExpression) {
            // Each alone first, so that a fault is found where it stands and neither reaches into the other.
            let service = spec.service.as_ref().map(|s| self.pattern(at, s));
            let method = spec.method.as_ref().map(|m| self.pattern(at, m));
            if [&spec.service, &spec.method].into_iter().flatten().any(Spanned::is_stand_in) {
                return None;
            }
            let part = |pattern: Option<Option<Pattern>>| match pattern {
                None => Some("[^/]+".to_owned()),
                Some(pattern) => pattern.map(|p| format!("(?:{})", p.text)),
            };
            let text = format!("/{}/{}", part(service)?, part(method)?);
            return self.pattern(at, &Spanned { inner: text, mark: spec.mark }).map(PathMatch::Regex);
        }
        let mut good = true;
        for name in [&spec.service, &spec.method].into_iter().flatten() {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if name.is_empty() || !name.chars().all(letter) {
                self.fault(at, name.mark, format!("`{}` is not the name of a gRPC service or method", excerpt(name)));
                good = false;
            }
        }
        if !good {
            return None;
        }
        match (&spec.service, &spec.method) {
            (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{}/{}", **service, **method).into())),
            (Some(service), None) => Some(PathMatch::Prefix(format!("/{}", **service).into())),
            (None, Some(method)) => {
                let text = Spanned { inner: format!("/[^/]+/{}", regex::escape(method)), mark: method.mark };
                self.pattern(at, &text).map(PathMatch::Regex)
            }
            (None, None) => None,
        }
    }

    /// Of several entries of one name only the first counts, as the Gateway API says.
    pub(super) fn value_matches(
        &mut self,
        at: &Loaded,
        specs: &[Spanned<ValueMatchSpec>],
        headers: bool,
    ) -> Vec<ValueMatch> {
        let mut matches: Vec<ValueMatch> = Vec::with_capacity(specs.len());
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        for spec in specs {
            let name: Arc<str> =
                if headers { spec.name.to_ascii_lowercase().into() } else { spec.name.as_str().into() };
            if !spec.name.is_stand_in() && !seen.insert(name.clone()) {
                self.warn(
                    at,
                    spec.name.mark,
                    format!("a condition on `{name}` stands here already; this one is ignored"),
                );
                continue;
            }
            let value = match spec.r#type.as_ref().map(|t| t.inner) {
                _ if spec.r#type.as_ref().is_some_and(Spanned::is_stand_in) => None,
                None | Some(ValueMatchWord::Exact) => Some(StringMatch::Exact(spec.value.as_str().into())),
                Some(ValueMatchWord::RegularExpression) => self.pattern(at, &spec.value).map(StringMatch::Regex),
            };
            matches.extend(value.map(|value| ValueMatch { name, value }));
        }
        matches
    }

    fn pattern(&mut self, at: &Loaded, text: &Spanned<String>) -> Option<Pattern> {
        self.spent.patterns += 1;
        let pattern = match self.spent.patterns {
            n if n > MAX_PATTERNS => Err(format!("it is one of more than {MAX_PATTERNS}")),
            _ => compile_pattern(text),
        };
        pattern.map_err(|why| self.fault(at, text.mark, format!("not a regular expression: {why}"))).ok()
    }
}

/// The whole subject must match. Bytes, not Unicode: header values need not be UTF-8, and RE2's classes are ASCII.
fn compile_pattern(text: &str) -> Result<Pattern, String> {
    if text.chars().count() > REGEX_TEXT {
        return Err(format!("it is longer than {REGEX_TEXT} characters"));
    }
    let build = |text: &str| {
        regex::bytes::RegexBuilder::new(text)
            .unicode(false)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .nest_limit(32)
            .build()
    };
    let why = |e: regex::Error| match e {
        regex::Error::CompiledTooBig(_) => "compiled it is larger than 256 KiB".to_owned(),
        // The last line of a syntax error says what is wrong; those before it draw a picture.
        e => e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    // Alone first: `a)|(b` is not an expression, although it becomes one between our brackets.
    build(text).map_err(why)?;
    let regex = build(&format!("^(?:{text})$")).map_err(why)?;
    Ok(Pattern { text: text.into(), regex })
}

fn bad_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("it starts with no `/`");
    }
    if path.contains('?') {
        return Some("a query is matched by `queryParams`");
    }
    if path.contains('#') {
        return Some("a fragment is never sent");
    }
    if path.contains("//") || path.split('/').any(|s| s == "." || s == "..") {
        return Some("paths are normalised first, so that `//`, `.` and `..` do not remain");
    }
    if path.to_ascii_lowercase().contains("%2f") {
        return Some("an escaped `/` cannot be told from a `/`");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("blanks, control and non-ASCII characters are sent percent-encoded");
    }
    None
}

fn every_path() -> PathMatch {
    PathMatch::Prefix("/".into())
}

fn method(word: MethodWord) -> http::Method {
    match word {
        MethodWord::Get => http::Method::GET,
        MethodWord::Head => http::Method::HEAD,
        MethodWord::Post => http::Method::POST,
        MethodWord::Put => http::Method::PUT,
        MethodWord::Delete => http::Method::DELETE,
        MethodWord::Connect => http::Method::CONNECT,
        MethodWord::Options => http::Method::OPTIONS,
        MethodWord::Trace => http::Method::TRACE,
        MethodWord::Patch => http::Method::PATCH,
    }
}

/// The key by which matches sort, the one that decides first.
///
/// Gateway API, `HTTPRouteRule.matches` and `GRPCRouteRule.matches`: host names before all, then the path, then
/// method, then the number of header and of query conditions. Where it leaves regular expressions open, they stand after
/// prefixes, but before the prefix `/`: a rule for everything else must not hide them.
#[allow(clippy::type_complexity)]
pub(super) fn precedence(
    m: &RouteMatch,
) -> (Reverse<(u8, usize)>, Reverse<(u8, usize)>, Reverse<(bool, usize, usize)>) {
    let host = match m.hostnames.first() {
        None => (0, 0),
        Some(host) => match host.strip_prefix("*.") {
            Some(suffix) => (1, suffix.len()),
            None => (2, host.len()),
        },
    };
    let path = match &m.path {
        PathMatch::Exact(path) => (3, path.len()),
        PathMatch::Prefix(path) if &**path == "/" => (0, 1),
        PathMatch::Prefix(path) => (2, path.len()),
        PathMatch::Regex(pattern) => (1, pattern.text.len()),
    };
    (Reverse(host), Reverse(path), Reverse((m.method.is_some(), m.headers.len(), m.query.len())))
}
