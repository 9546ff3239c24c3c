//! The Gateway API's tables for rewrite and redirect, header edits, hop limits.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn head(authority: &str, target: &str) -> RequestHead {
    RequestHead { authority: authority.into(), target: target.into(), ..RequestHead::default() }
}

fn pair(name: &str, value: &str) -> (Arc<str>, Arc<str>) {
    (name.into(), value.into())
}

fn replace(target: &str, prefix: &str, replacement: &str) -> String {
    let mut head = head("a", target);
    let path = Some(PathEdit::ReplacePrefix(replacement.into()));
    rewrite(&mut head, &Rewrite { hostname: None, path }, &PathMatch::Prefix(prefix.into()));
    head.target
}

#[test]
fn a_prefix_is_replaced_as_the_gateway_api_has_it() {
    for (path, prefix, replacement, want) in [
        // The table of HTTPPathModifier.replacePrefixMatch.
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        // Beyond it.
        ("/foo", "/foo", "/xyz/", "/xyz/"),
        ("/foo/bar/baz", "/foo/bar", "/", "/baz"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/", "/", "/", "/"),
        ("/foo?a=/foo", "/foo", "/xyz", "/xyz?a=/foo"),
        ("/foo?", "/foo", "", "/?"),
        ("/foo/bar?q#x", "/foo", "/", "/bar?q#x"),
        ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ("*", "/", "/xyz", "*"),
        ("", "/", "/xyz", ""),
    ] {
        assert_eq!(replace(path, prefix, replacement), want, "{path} {prefix} {replacement}");
    }
}

#[test]
fn a_whole_path_is_replaced_and_the_query_stays() {
    for (target, full, want) in
        [("/a/b?c", "/x", "/x?c"), ("/a", "/", "/"), ("/a?", "/x/", "/x/?"), ("/a", "", "/"), ("/a", "x", "/x")]
    {
        let mut head = head("a:80", target);
        let path = Some(PathEdit::ReplaceFull(full.into()));
        rewrite(&mut head, &Rewrite { hostname: Some("b.org".into()), path }, &PathMatch::Exact(target.into()));
        assert_eq!((&*head.authority, &*head.target), ("b.org", want));
    }
}

#[test]
fn only_a_prefix_that_matched_is_replaced() {
    let mut head = head("a", "/a");
    let path = Some(PathEdit::ReplacePrefix("/x".into()));
    rewrite(&mut head, &Rewrite { hostname: None, path }, &PathMatch::Exact("/a".into()));
    assert_eq!(head.target, "/a");
}

fn location(authority: &str, redirect_to: &Redirect) -> String {
    let head = head(authority, "/foo/bar?q=1");
    redirect(&head, redirect_to, &PathMatch::Prefix("/foo".into()), 8080).1
}

#[test]
fn a_redirect_derives_its_port_from_scheme_then_listener() {
    let none = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
    let host = Redirect { hostname: Some("b.org".into()), ..none.clone() };
    let scheme = |s: &str| Redirect { scheme: Some(s.into()), ..host.clone() };
    let port = |r: &Redirect, port| Redirect { port: Some(port), ..r.clone() };
    for (redirect_to, want) in [
        (none.clone(), "http://a.org:8080/foo/bar?q=1"),
        (host.clone(), "http://b.org:8080/foo/bar?q=1"),
        (scheme("https"), "https://b.org/foo/bar?q=1"),
        (scheme("http"), "http://b.org/foo/bar?q=1"),
        (port(&host, 80), "http://b.org/foo/bar?q=1"),
        (port(&host, 443), "http://b.org:443/foo/bar?q=1"),
        (port(&scheme("https"), 443), "https://b.org/foo/bar?q=1"),
        (port(&scheme("https"), 80), "https://b.org:80/foo/bar?q=1"),
        (port(&scheme("https"), 8443), "https://b.org:8443/foo/bar?q=1"),
        (Redirect { path: Some(PathEdit::ReplaceFull("/n".into())), ..host.clone() }, "http://b.org:8080/n?q=1"),
        (Redirect { path: Some(PathEdit::ReplacePrefix("/".into())), ..scheme("https") }, "https://b.org/bar?q=1"),
    ] {
        assert_eq!(location("a.org:1234", &redirect_to), want);
    }
    assert_eq!(location("[::1]:1", &none), "http://[::1]:8080/foo/bar?q=1");
    assert_eq!(location("", &none), "/foo/bar?q=1");
    let options = redirect(&head("a", "*"), &scheme("https"), &PathMatch::Prefix("/".into()), 80);
    assert_eq!(options, (302, "https://b.org/".to_owned()));
}

#[test]
fn headers_are_set_then_added_then_removed() {
    let mut head = head("a", "/");
    for (name, value) in [("X-Tier", "old"), ("x-gone", "1"), ("x-list", "a")] {
        head.headers.append(name.as_bytes(), value.as_bytes());
    }
    let edits = HeaderEdits {
        set: vec![pair("x-tier", "gold"), pair("x-new", "1")],
        add: vec![pair("x-list", "b"), pair("x-brief", "1")],
        remove: vec!["x-gone".into(), "x-brief".into(), "x-never".into()],
    };
    apply_to_request(&edits, &mut head);
    let got: Vec<_> = head.headers.iter().map(|(_, name, value)| [name, value].concat()).collect();
    assert_eq!(got, [b"X-Tiergold".to_vec(), b"x-lista".to_vec(), b"x-new1".to_vec(), b"x-listb".to_vec()]);
}

#[test]
fn an_edit_of_host_changes_the_authority_and_leaves_no_field() {
    let mut head = head("a", "/");
    let edits = HeaderEdits { set: vec![pair("host", "b")], add: vec![], remove: vec!["host".into()] };
    apply_to_request(&edits, &mut head);
    assert_eq!((&*head.authority, head.headers.len()), ("b", 0));
}

#[test]
fn max_forwards_counts_down_for_trace_and_options() {
    for (method, value, want, left) in [
        (Method::OPTIONS, "0", HopLimit::Answer, "0"),
        (Method::TRACE, "00", HopLimit::Answer, "00"),
        (Method::OPTIONS, "1", HopLimit::Forward, "0"),
        (Method::TRACE, "10", HopLimit::Forward, "9"),
        (Method::TRACE, "99999999999", HopLimit::Forward, "4294967295"),
        (Method::OPTIONS, "-1", HopLimit::Forward, "-1"),
        (Method::OPTIONS, "", HopLimit::Forward, ""),
        (Method::OPTIONS, "x", HopLimit::Forward, "x"),
        (Method::GET, "0", HopLimit::Forward, "0"),
    ] {
        let mut head = head("a", "*");
        head.method = method;
        head.headers.append_known(Known::MaxForwards, value.as_bytes());
        assert_eq!(hop_limit(&mut head), want, "{value}");
        assert_eq!(head.headers.get_known(Known::MaxForwards), Some(left.as_bytes()));
    }
    assert_eq!(hop_limit(&mut head("a", "*")), HopLimit::Forward);
}

proptest! {
    #[test]
    fn a_rewritten_path_starts_with_a_slash_and_keeps_its_query(
        rest in "(/[a-z]{0,3}){0,3}", query in "(\\?[a-z/?]{0,5})?", prefix in "(/[a-z]{1,3}){0,2}", to in "(/[a-z]{0,3}){0,2}",
    ) {
        let target = format!("{prefix}{rest}{query}");
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        let prefix = if prefix.is_empty() { "/" } else { &*prefix };
        let out = replace(&target, prefix, &to);
        prop_assert!(out.starts_with('/') && out.ends_with(&query));
        prop_assert!(to.contains("//") || rest.contains("//") || !out[..out.len() - query.len()].contains("//"));
    }

    #[test]
    fn no_target_panics(target in ".{0,20}", prefix in ".{0,6}", to in ".{0,6}") {
        replace(&target, &prefix, &to);
        let edit = Redirect { scheme: None, hostname: None, port: None, path: Some(PathEdit::ReplacePrefix(to.as_str().into())), status: 301 };
        let _location = redirect(&head(&target, &target), &edit, &PathMatch::Prefix(prefix.as_str().into()), 80);
    }
}
