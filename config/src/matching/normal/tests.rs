//! The table of the module's words, and properties: a fixed point, one verdict for every spelling.

use proptest::prelude::*;

use super::*;

fn access(text: &str) -> Result<String, Unclear> {
    path(text, PathUse::Access).map(|normal| normal.unwrap_or_else(|| text.to_owned()))
}

fn route(text: &str) -> String {
    path(text, PathUse::Route).unwrap().unwrap_or_else(|| text.to_owned())
}

#[test]
fn what_has_one_meaning_gets_one_form() {
    // As it came, for routes, for access rules.
    for (came, routed, judged) in [
        ("/", "/", "/"),
        ("/orders/1", "/orders/1", "/orders/1"),
        ("/.well-known/acme", "/.well-known/acme", "/.well-known/acme"),
        ("/a.b/..c/d../...", "/a.b/..c/d../...", "/a.b/..c/d../..."),
        ("/%61dmin", "/admin", "/admin"),
        ("/%41%5a%7E%2d%5F%39", "/AZ~-_9", "/AZ~-_9"),
        ("/caf%c3%a9", "/caf%C3%A9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b", "/a%20b"),
        ("/a%40b", "/a%40b", "/a%40b"),
        ("/100%25", "/100%25", "/100%25"),
        ("/./admin", "/admin", "/admin"),
        ("/a/../admin", "/admin", "/admin"),
        ("/a/%2e%2E/admin", "/admin", "/admin"),
        ("/a/.%2e/admin", "/admin", "/admin"),
        ("/../../admin", "/admin", "/admin"),
        ("/admin/.", "/admin/", "/admin/"),
        ("/admin/x/..", "/admin/", "/admin/"),
        ("/..", "/", "/"),
        ("//admin", "//admin", "/admin"),
        ("/a//b///c", "/a//b///c", "/a/b/c"),
        ("/a//", "/a//", "/a/"),
        ("//", "//", "/"),
        ("/a/..//b", "/b", "/b"),
        ("/.//host/x", "/host/x", "/host/x"),
        ("/a//.", "/a//", "/a/"),
    ] {
        assert_eq!(route(came), routed, "{came}");
        assert_eq!(access(came), Ok(judged.to_owned()), "{came}");
        assert_eq!(path(came, PathUse::Forward), Ok(None));
    }
}

#[test]
fn what_is_no_escape_becomes_none() {
    for (came, normal) in [
        ("/2%6%440", "/2%6%440"),
        ("/%%341", "/%%341"),
        ("/%4%2d1", "/%4-1"),
        ("/%%41", "/%%41"),
        ("/%6%47", "/%6G"),
        ("/%C3%41", "/%C3A"),
    ] {
        assert_eq!(route(came), normal, "{came}");
        assert_eq!(route(normal), normal, "{came}");
    }
}

#[test]
fn what_has_two_meanings_is_refused_where_access_is_judged() {
    use Unclear::*;
    for (came, why) in [
        ("/a%2fb", EncodedSlash),
        ("/a%2Fb", EncodedSlash),
        ("/a/..%2fadmin", EncodedSlash),
        ("/a\\b", Backslash),
        ("/a%5cb", Backslash),
        ("/a;x=1/b", Parameter),
        ("/..;/admin", Parameter),
        ("/a%3bx", Parameter),
        ("/admin%3fx", EncodedDelimiter),
        ("/admin%23x", EncodedDelimiter),
        ("/admin%00", Control),
        ("/adm%0ain", Control),
        ("/admin%7f", Control),
        ("/%252e%252e/admin", Twice),
        ("/%2561dmin", Twice),
        ("/%25%36%31dmin", Twice),
        ("/%25u0061dmin", Twice),
        ("/a%", Malformed),
        ("/a%4", Malformed),
        ("/a%zz", Malformed),
        ("/%u0061dmin", Malformed),
        ("/%%36%31", Malformed),
        ("/%c0%ae%c0%ae/admin", NotUtf8),
        ("/%e0%80%af", NotUtf8),
        ("/caf%e9", NotUtf8),
        ("/%ed%a0%80", NotUtf8),
        ("/a%ef%bc%8fadmin", Lookalike),
        ("/%ef%bc%8e%ef%bc%8e/admin", Lookalike),
        ("/admin%20", Blank),
        ("/%20admin", Blank),
        ("/admin%20/x", Blank),
        ("/a//../b", EmptySegment),
    ] {
        assert_eq!(access(came), Err(why), "{came}");
    }
    // Elsewhere they pass, and what is equivalent in them is still brought into one form.
    assert_eq!(route("/group%2fproject/%2e%2E/x;y=1"), "/x;y=1");
    assert_eq!(route("/a%2fb/caf%e9/%zz"), "/a%2Fb/caf%E9/%zz");
}

#[test]
fn hosts_lose_case_dot_and_empty_port() {
    for (came, normal) in [
        ("app", None),
        ("app:80", None),
        ("[::1]:80", None),
        ("", None),
        (".", None),
        ("App.Example.", Some("app.example")),
        ("APP.:80", Some("app:80")),
        ("app:", Some("app")),
        ("app..", Some("app")),
        ("..", None),
        ("[::AB]", Some("[::ab]")),
    ] {
        assert_eq!(authority(came).as_deref(), normal, "{came}");
    }
}

/// Pieces that together make most of what has ever been tried.
fn spelled() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "\\",
        ";",
        "%3b",
        "a",
        "%61",
        "admin",
        "%",
        "%25",
        "25",
        "%00",
        "%20",
        "%c3%a9",
        "%c0",
        "%ef%bc%8f",
        "u002e",
        "x",
        "~",
        "%7e",
        "%40",
        "@",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

#[test]
fn an_upper_case_letter_is_found_wherever_it_stands() {
    for length in 0..20 {
        for byte in 0..=u8::MAX {
            for at in 0..length {
                let mut bytes = vec![b'-'; length];
                bytes[at] = byte;
                assert_eq!(has_upper(&bytes), byte.is_ascii_uppercase(), "{byte} at {at} of {length}");
            }
        }
    }
}

proptest! {
    #[test]
    fn the_normal_host_is_a_fixed_point(came in "[aB.:]{0,6}|\\[[:0-9A-F]{1,5}\\](:[0-9]{0,3})?") {
        if let Some(normal) = authority(&came) {
            prop_assert!(normal != came && (authority(&normal).is_none() || came.matches(':').count() > 1), "{}", normal);
        }
    }

    #[test]
    fn the_normal_form_is_a_fixed_point(came in prop_oneof![spelled(), "/[ -~]{0,30}", "/\\PC{0,20}"]) {
        for used in [PathUse::Route, PathUse::Access] {
            let Ok(normal) = path(&came, used) else { continue };
            let normal = normal.unwrap_or_else(|| came.clone());
            prop_assert_eq!(path(&normal, used), Ok(None), "{}", normal);
            prop_assert!(normal.starts_with('/') && (came.starts_with("//") || !normal.starts_with("//")));
            let segments = normal.split('/').skip(1);
            prop_assert!(segments.clone().all(|s| s != "." && s != ".."), "{}", normal);
            if used == PathUse::Access {
                let decoded: Vec<u8> = unescape(normal.as_bytes()).map(|(b, _)| b).collect();
                prop_assert!(!normal.contains("//") && !decoded.iter().any(|b| b"\\;?#\0".contains(b)), "{}", normal);
                prop_assert_eq!(decoded.iter().filter(|b| **b == b'/').count(), segments.count());
            }
        }
    }

    #[test]
    fn a_plain_path_is_its_own_normal_form(came in prop_oneof![spelled(), "/[ -~]{0,30}"]) {
        if is_plain(came.as_bytes()) {
            let text = escapes(&came, PathUse::Access).unwrap();
            prop_assert_eq!(&text, &came);
            prop_assert_eq!(segments(&text, PathUse::Access).unwrap(), came);
        }
    }

    #[test]
    fn every_spelling_of_a_path_has_its_form(
        words in prop::collection::vec("[a-z0-9~_.-]{1,6}", 1..5),
        escaped in any::<u64>(),
        noise in prop::collection::vec(0..4_usize, 5),
    ) {
        prop_assume!(words.iter().all(|w| w != "." && w != ".."));
        let plain = format!("/{}", words.join("/"));
        let mut spelled = String::new();
        for (i, word) in words.iter().enumerate() {
            // Nothing is taken back behind an empty segment: that has no one form.
            let empty = noise[..i].contains(&1);
            spelled += ["/", "//", "/./", if empty { "/" } else { "/x/../" }][noise[i]];
            for (j, b) in word.bytes().enumerate() {
                if escaped >> ((i * 7 + j) % 64) & 1 == 1 {
                    spelled += &format!("%{b:02x}");
                } else {
                    spelled.push(char::from(b));
                }
            }
        }
        prop_assert_eq!(access(&spelled), Ok(plain), "{}", spelled);
    }
}

#[test]
fn steps_see_what_a_look_at_each_byte_sees() {
    let odd = [&b"%"[..], b";", b"\\", b"?", b"#", b" ", b"\x1f", b"\x7f", b"\xff", b"//", b"/.", b"/./", b".", b"/"];
    for length in 1..60 {
        let plain: Vec<u8> = b"/abc/de.f-~".iter().copied().cycle().take(length).collect();
        assert_eq!(is_plain(&plain), is_plain_by_byte(&plain), "{plain:?}");
        for piece in odd {
            for at in 0..length {
                let mut path = plain.clone();
                for (to, from) in path.iter_mut().skip(at).zip(piece) {
                    *to = *from;
                }
                assert_eq!(is_plain(&path), is_plain_by_byte(&path), "{path:?}");
            }
        }
    }
}
