//! The query of a URL (WHATWG URL, `application/x-www-form-urlencoded`).

/// Names and values, decoded, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// More than any question of ours has; the head of a request is bounded besides.
const MOST: usize = 64;

impl Query {
    pub(crate) fn of(text: &str) -> Self {
        let parts = text.split('&').filter(|part| !part.is_empty()).take(MOST);
        Self(
            parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(n, v)| (decode(n), decode(v))).collect(),
        )
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }
}

/// What is not an escape stays as it is.
fn decode(text: &str) -> String {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(text.len());
    while let [byte, tail @ ..] = rest {
        let escaped =
            tail.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit)).and_then(hex);
        out.push(escaped.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = Query::of("url=http%3A%2F%2Fa%2Fb%3Fc&header=x-a%3A+1&header=x-b:2&verbose&bad=%zz%4&");
        assert_eq!(query.get("url"), Some("http://a/b?c"));
        assert_eq!(query.all("header"), ["x-a: 1", "x-b:2"]);
        assert!(query.has("verbose"));
        assert_eq!(query.get("bad"), Some("%zz%4"));
    }
}
