//! `tracestate` (W3C Trace Context 3.3): checked, passed on, several fields joined into one.
//!
//! Keys may start with a digit (level 2 allows it) and may name a tenant (`tenant@system`, level 1).

use crate::http::{Headers, Known};

/// What is to be done with the `tracestate` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// None, or one valid field.
    Keep,
    /// Several fields, valid together.
    Join,
    /// Not valid, or without a valid `traceparent`.
    Drop,
}

/// Members of a list (3.3.1.1); a longer list is not valid.
const MAX_MEMBERS: usize = 32;

impl State {
    /// Judges the fields of `headers`.
    pub(super) fn of(headers: &Headers) -> Self {
        let mut fields = 0;
        let mut members = 0;
        for value in headers.all_known(Known::Tracestate) {
            fields += 1;
            for member in list(value) {
                members += 1;
                if members > MAX_MEMBERS || !is_member(member) {
                    return Self::Drop;
                }
            }
        }
        if fields > 1 { Self::Join } else { Self::Keep }
    }

    /// Does it.
    pub(super) fn inject(self, headers: &mut Headers) {
        match self {
            Self::Keep => {}
            Self::Drop => {
                headers.remove_known(Known::Tracestate);
            }
            Self::Join => {
                let mut joined = Vec::new();
                for value in headers.all_known(Known::Tracestate).filter(|value| !value.is_empty()) {
                    if !joined.is_empty() {
                        joined.push(b',');
                    }
                    joined.extend_from_slice(value);
                }
                headers.set_known(Known::Tracestate, &joined);
            }
        }
    }
}

/// Members that are not empty, without the blanks around them.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|b| *b == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    is_key(key) && is_value(value)
}

fn is_key(key: &[u8]) -> bool {
    match key.iter().position(|b| *b == b'@') {
        None => is_name(key, 256),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            is_name(tenant, 241) && is_name(system, 14) && system[0].is_ascii_lowercase()
        }
    }
}

fn is_name(name: &[u8], max: usize) -> bool {
    name.len() <= max
        && name.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
}

/// 1 to 256 of the printable characters but comma and equals sign, no blank at the end.
fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len()) && value.iter().all(|b| matches!(b, b' '..=b'~' if !matches!(b, b',' | b'=')))
}
