//! Filters of rules and backends.

use std::sync::Arc;

use crate::{
    compile::{Context, names::Found},
    documents::{
        FilterTypeWord, HeaderModifier, HttpHeader, PathModifier, PathModifierWord, RequestMirror, RequestRedirect,
        RouteFilter, SchemeWord, Spanned, UrlRewrite,
    },
    load::Loaded,
    model::{HeaderEdits, Mirror, PathEdit, Redirect, Rewrite},
    yaml::{Mark, excerpt},
};

/// What filters came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<Mirror>,
}

/// Where filters stand, which decides what they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    HttpRule {
        /// Every match has a `PathPrefix`, so that there is a prefix to replace.
        prefix: bool,
    },
    GrpcRule,
    Backend,
}

impl Context<'_> {
    pub(super) fn filters(&mut self, at: &Loaded, specs: &[Spanned<RouteFilter>], place: Place) -> Filters {
        let mut filters = Filters::default();
        let mut seen: Vec<FilterTypeWord> = Vec::new();
        for spec in specs {
            let word = spec.r#type.inner;
            if !spec.r#type.is_stand_in() {
                if seen.contains(&word) && word != FilterTypeWord::RequestMirror {
                    self.fault(at, spec.r#type.mark, "a filter of this type stands here already");
                }
                seen.push(word);
            }
            self.filter(at, spec, place, &mut filters);
        }
        let redirect = specs.iter().find(|s| s.r#type.inner == FilterTypeWord::RequestRedirect);
        if let (Some(redirect), Some(_), Some(_)) = (redirect, &filters.redirect, &filters.rewrite) {
            self.fault(at, redirect.mark, "a redirect and a rewrite: a redirected request is not forwarded");
        }
        filters
    }

    /// What one filter says is checked whatever its type is, and taken if it is of that type.
    fn filter(&mut self, at: &Loaded, spec: &Spanned<RouteFilter>, place: Place, filters: &mut Filters) {
        if !spec.r#type.is_stand_in() {
            self.filter_type(at, spec, place);
        }
        let word = spec.r#type.inner;
        let edits = spec.request_header_modifier.as_ref().map(|s| self.header_edits(at, s));
        if let Some(edits) = edits.filter(|_| word == FilterTypeWord::RequestHeaderModifier) {
            filters.request_headers = edits;
        }
        let edits = spec.response_header_modifier.as_ref().map(|s| self.header_edits(at, s));
        if let Some(edits) = edits.filter(|_| word == FilterTypeWord::ResponseHeaderModifier) {
            filters.response_headers = edits;
        }
        let redirect = spec.request_redirect.as_ref().map(|s| self.redirect(at, s, place));
        if let Some(redirect) = redirect.filter(|_| word == FilterTypeWord::RequestRedirect) {
            filters.redirect = Some(redirect);
        }
        let rewrite = spec.url_rewrite.as_ref().map(|s| self.rewrite(at, s, place));
        if let Some(rewrite) = rewrite.filter(|_| word == FilterTypeWord::UrlRewrite) {
            filters.rewrite = Some(rewrite);
        }
        let mirror = spec.request_mirror.as_ref().and_then(|s| self.mirror(at, s));
        filters.mirrors.extend(mirror.filter(|_| word == FilterTypeWord::RequestMirror));
    }

    /// The field of its type and no other, and a type that can stand here.
    fn filter_type(&mut self, at: &Loaded, spec: &Spanned<RouteFilter>, place: Place) {
        use FilterTypeWord as Word;
        let word = spec.r#type.inner;
        let fields: [(&str, Option<Mark>, Word); 8] = [
            (
                "requestHeaderModifier",
                spec.request_header_modifier.as_ref().map(|f| f.mark),
                Word::RequestHeaderModifier,
            ),
            (
                "responseHeaderModifier",
                spec.response_header_modifier.as_ref().map(|f| f.mark),
                Word::ResponseHeaderModifier,
            ),
            ("requestRedirect", spec.request_redirect.as_ref().map(|f| f.mark), Word::RequestRedirect),
            ("urlRewrite", spec.url_rewrite.as_ref().map(|f| f.mark), Word::UrlRewrite),
            ("requestMirror", spec.request_mirror.as_ref().map(|f| f.mark), Word::RequestMirror),
            ("cors", spec.cors.as_ref().map(|f| f.mark), Word::Cors),
            ("externalAuth", spec.external_auth.as_ref().map(|f| f.mark), Word::ExternalAuth),
            ("extensionRef", spec.extension_ref.as_ref().map(|f| f.mark), Word::ExtensionRef),
        ];
        for (name, mark, its) in fields {
            match mark {
                Some(mark) if its != word => {
                    self.fault(at, mark, format!("`{name}` does not belong to this type of filter"))
                }
                None if its == word && supported(word, place) => {
                    let message = format!("missing field `{name}`, which this type of filter needs");
                    self.missing(at, spec.mark, &[name], message);
                }
                _ => {}
            }
        }
        if !supported(word, place) {
            let message = match (word, place) {
                (Word::Cors | Word::ExternalAuth | Word::ExtensionRef, _) => "this type of filter is not supported",
                (_, Place::Backend) => "on a backend only header modifiers are supported",
                _ => "a GRPCRoute has no such filter",
            };
            self.fault(at, spec.r#type.mark, message);
        }
    }

    fn header_edits(&mut self, at: &Loaded, spec: &HeaderModifier) -> HeaderEdits {
        let mut remove: Vec<Arc<str>> = Vec::new();
        for name in &spec.remove {
            if let Some(name) = self.header_name(at, name) {
                remove.push(name);
            }
        }
        let lists: [Vec<&Spanned<String>>; 3] = [
            spec.set.iter().map(|h| &h.name).collect(),
            spec.add.iter().map(|h| &h.name).collect(),
            spec.remove.iter().collect(),
        ];
        for names in lists {
            for (index, name) in names.iter().enumerate() {
                if names[..index].iter().any(|n| n.eq_ignore_ascii_case(name)) {
                    self.fault(at, name.mark, format!("`{}` stands twice in this list", excerpt(name)));
                }
            }
        }
        HeaderEdits { set: self.header_list(at, &spec.set), add: self.header_list(at, &spec.add), remove }
    }

    pub(super) fn header_list(&mut self, at: &Loaded, specs: &[Spanned<HttpHeader>]) -> Vec<(Arc<str>, Arc<str>)> {
        let mut list = Vec::with_capacity(specs.len());
        for spec in specs {
            let value = spec.value.as_str();
            if http::HeaderValue::from_bytes(value.as_bytes()).is_err() || value.trim() != value {
                let message = "this is not a header value (RFC 9110 5.5): no control characters, no blank at the ends";
                self.fault(at, spec.value.mark, message);
            }
            if let Some(name) = self.header_name(at, &spec.name) {
                list.push((name, value.into()));
            }
        }
        list
    }

    fn header_name(&mut self, at: &Loaded, name: &Spanned<String>) -> Option<Arc<str>> {
        let lower = name.to_ascii_lowercase();
        if HOP_BY_HOP.contains(&lower.as_str()) {
            self.fault(
                at,
                name.mark,
                format!("`{lower}` belongs to one connection (RFC 9110 7.6.1) and cannot be edited"),
            );
            return None;
        }
        if lower == "host" {
            self.fault(at, name.mark, "`host` is changed by a filter of type `URLRewrite`");
            return None;
        }
        if lower == "content-length" {
            self.fault(at, name.mark, "`content-length` frames the message and cannot be edited");
            return None;
        }
        Some(lower.into())
    }

    fn redirect(&mut self, at: &Loaded, spec: &RequestRedirect, place: Place) -> Redirect {
        let mut status = 302;
        if let Some(code) = &spec.status_code {
            status = code.inner;
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                self.fault(at, code.mark, format!("`{status}` is not one of 301, 302, 303, 307 and 308"));
            }
        }
        Redirect {
            scheme: spec.scheme.map(|s| match s {
                SchemeWord::Http => "http".into(),
                SchemeWord::Https => "https".into(),
            }),
            hostname: spec.hostname.as_ref().map(|h| h.as_str().into()),
            port: spec.port,
            path: spec.path.as_ref().and_then(|p| self.path_edit(at, p, place)),
            status,
        }
    }

    fn rewrite(&mut self, at: &Loaded, spec: &Spanned<UrlRewrite>, place: Place) -> Rewrite {
        if spec.hostname.is_none() && spec.path.is_none() {
            self.missing(at, spec.mark, &["hostname", "path"], "`urlRewrite` needs `hostname` or `path`");
        }
        Rewrite {
            hostname: spec.hostname.as_ref().map(|h| h.as_str().into()),
            path: spec.path.as_ref().and_then(|p| self.path_edit(at, p, place)),
        }
    }

    fn path_edit(&mut self, at: &Loaded, spec: &Spanned<PathModifier>, place: Place) -> Option<PathEdit> {
        let fields = [
            (&spec.replace_full_path, "replaceFullPath", PathModifierWord::ReplaceFullPath),
            (&spec.replace_prefix_match, "replacePrefixMatch", PathModifierWord::ReplacePrefixMatch),
        ];
        let word = (!spec.r#type.is_stand_in()).then_some(spec.r#type.inner);
        let mut edit = None;
        for (field, name, its) in fields {
            let own = word == Some(its);
            let Some(field) = field else {
                if own {
                    let message = format!("missing field `{name}`, which this type needs");
                    self.missing(at, spec.mark, &[name], message);
                }
                continue;
            };
            if word.is_some() && !own {
                self.fault(at, field.mark, format!("`{name}` does not belong to this type"));
            }
            let is_prefix = its == PathModifierWord::ReplacePrefixMatch;
            let clean = field.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
            if !(field.starts_with('/') || is_prefix && field.is_empty()) || !clean {
                let message = "a path starts with `/`, and has no blank, `?`, `#`, control or non-ASCII character";
                self.fault(at, field.mark, message);
            } else if own {
                let text = field.as_str().into();
                edit = Some(if is_prefix { PathEdit::ReplacePrefix(text) } else { PathEdit::ReplaceFull(text) });
            }
        }
        // Elsewhere the filter itself cannot be.
        if word == Some(PathModifierWord::ReplacePrefixMatch) && place == (Place::HttpRule { prefix: false }) {
            let message = "`ReplacePrefixMatch` needs a `PathPrefix` in every match of its rule";
            self.fault(at, spec.r#type.mark, message);
        }
        edit
    }

    fn mirror(&mut self, at: &Loaded, spec: &Spanned<RequestMirror>) -> Option<Mirror> {
        let (numerator, denominator) = match (&spec.percent, &spec.fraction) {
            (Some(_), Some(fraction)) => {
                self.fault(at, fraction.mark, "both `percent` and `fraction`: one of them says the share");
                (100, 100)
            }
            (Some(percent), None) => (percent.inner, 100),
            (None, Some(fraction)) => {
                let below = fraction.denominator.as_ref().map_or(100, |d| d.inner);
                let unknown = match &fraction.denominator {
                    Some(denominator) => denominator.is_stand_in(),
                    None => at.may_have(fraction.mark, &["denominator"]),
                };
                if fraction.numerator.inner > below && !unknown {
                    self.fault(
                        at,
                        fraction.numerator.mark,
                        format!("the share is above 1: `numerator` is at most {below}"),
                    );
                }
                (fraction.numerator.inner, below)
            }
            (None, None) => (100, 100),
        };
        match self.upstream(at, &spec.backend_ref) {
            Found::Here(upstream) => Some(Mirror { upstream, numerator, denominator }),
            Found::Elsewhere => None,
        }
    }
}

fn supported(word: FilterTypeWord, place: Place) -> bool {
    match word {
        FilterTypeWord::RequestHeaderModifier | FilterTypeWord::ResponseHeaderModifier => true,
        FilterTypeWord::RequestMirror => place != Place::Backend,
        FilterTypeWord::RequestRedirect | FilterTypeWord::UrlRewrite => matches!(place, Place::HttpRule { .. }),
        FilterTypeWord::Cors | FilterTypeWord::ExternalAuth | FilterTypeWord::ExtensionRef => false,
    }
}

/// RFC 9110 7.6.1, and what older agents call so.
const HOP_BY_HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"];
