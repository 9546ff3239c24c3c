//! What an unquoted word means, and whether a string can be written without quotes.
//!
//! Words mean what they mean to `kubectl`, whose parser (go-yaml v2) reads YAML 1.1 for booleans and integers. What is written
//! without quotes must be a string to that parser and to one of YAML 1.2 alike; where they might differ, quotes are set.

use serde_json::{Number, Value};

/// The meaning of an unquoted word. `None`: a number that JSON does not have (`.nan`, `.inf`).
pub(super) fn resolve(word: &str) -> Option<Value> {
    Some(match word {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ if is_not_finite(word) => return None,
        _ => number(word).map_or_else(|| Value::String(word.to_owned()), Value::Number),
    })
}

fn is_not_finite(word: &str) -> bool {
    let bare = word.strip_prefix(['+', '-']).unwrap_or(word);
    matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(word, ".nan" | ".NaN" | ".NAN")
}

fn number(word: &str) -> Option<Number> {
    if !word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    if word.starts_with('.') {
        return float(word);
    }
    let plain = word.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// As `strconv.ParseInt` with base 0: `0x`, `0o`, `0b`, and `0` alone for octal.
fn integer(word: &str) -> Option<Number> {
    let (negative, digits) = match word.as_bytes().first()? {
        b'-' => (true, &word[1..]),
        b'+' => (false, &word[1..]),
        _ => (false, word),
    };
    let prefixed = |prefixes: [&str; 2]| prefixes.iter().find_map(|p| digits.strip_prefix(p));
    let (digits, radix) = if let Some(hex) = prefixed(["0x", "0X"]) {
        (hex, 16)
    } else if let Some(octal) = prefixed(["0o", "0O"]) {
        (octal, 8)
    } else if let Some(binary) = prefixed(["0b", "0B"]) {
        (binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(magnitude.into());
    }
    0i64.checked_sub_unsigned(magnitude).map(Number::from)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`, if it is finite.
fn float(word: &str) -> Option<Number> {
    let bare = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (mantissa, exponent) = bare.split_once(['e', 'E']).map_or((bare, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    if !exponent || !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    word.parse().ok().and_then(Number::from_f64)
}

/// Whether `text` may stand without quotes, as a value or a key, and still be this string to every parser.
pub(super) fn is_plain(text: &str, flow: bool) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let inner = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | ':' | '@' | '+' | '=' | '(' | ')' | '$')
    };
    let begins = first.is_ascii_alphanumeric() || matches!(first, '_' | '/' | '$' | '(');
    let ends = !text.ends_with([' ', ':']) && !text.contains(": ");
    let fits = text.chars().all(|c| inner(c) || (!flow && matches!(c, ',' | ';')));
    let colon = flow && text.contains(':');
    begins && ends && fits && !colon && !is_special(text)
}

/// Words that some version of YAML takes for something else, and what looks like a number, a date or a time.
fn is_special(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nil", "none"];
    if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    // A number with a unit (`100m`, `64Mi`, `10s`) has a letter that no number has.
    let unit = |b: u8| {
        b.is_ascii_alphabetic()
            && !matches!(b, b'a'..=b'f' | b'A'..=b'F' | b'x' | b'X' | b'o' | b'O' | b'T' | b'Z' | b't' | b'z')
    };
    text.starts_with(|c: char| c.is_ascii_digit()) && !text.bytes().any(unit)
}

/// In double quotes, as JSON and YAML both read it.
pub(super) fn quoted(text: &str) -> String {
    let json = Value::String(text.to_owned()).to_string();
    // Line ends to a YAML 1.1 parser, and what no YAML text may hold as it is; all are single UTF-16 units.
    let odd =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !json.contains(odd) {
        return json;
    }
    json.chars().map(|c| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// In single quotes, if that is possible on one line.
pub(super) fn single_quoted(text: &str) -> Option<String> {
    let printable = text
        .chars()
        .all(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'));
    printable.then(|| format!("'{}'", text.replace('\'', "''")))
}
