//! SPIFFE IDs as people mistype them, and what they probably meant.

use outrigger_config::spiffe::SpiffeId;

/// Parses an ID; the error says what would be right.
pub(super) fn spiffe_id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text).map_err(|why| {
        let hint = match meant(text) {
            Some(id) => format!("did you mean {id} ?"),
            None => "write it as spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT".to_owned(),
        };
        format!("{why}; {hint}")
    })
}

/// The ID without what is commonly wrong: the scheme, capitals of the trust domain, empty segments.
fn meant(text: &str) -> Option<SpiffeId> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (domain, path) = rest.trim().split_once('/')?;
    let segments: Vec<_> = path.split('/').filter(|s| !matches!(*s, "" | ".")).collect();
    let id = format!("spiffe://{}/{}", domain.to_ascii_lowercase(), segments.join("/"));
    SpiffeId::parse(&id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_would_be_right() {
        const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
        for wrong in [
            "cluster.local/ns/shop/sa/web",
            "SPIFFE://cluster.local/ns/shop/sa/web",
            "spiffe://Cluster.Local/ns/shop/sa/web",
            "spiffe://cluster.local//ns/shop/sa/web/",
            "https://cluster.local/ns/shop/sa/web",
        ] {
            let message = spiffe_id(wrong).unwrap_err();
            assert!(message.contains(WEB), "{wrong}: {message}");
        }
        for wrong in ["", "web", "spiffe://cluster.local", "spiffe://cluster.local/ns/shop/sa/w*", "spiffe://a/../b"] {
            let message = spiffe_id(wrong).unwrap_err();
            assert!(message.contains("spiffe://TRUST_DOMAIN/ns/"), "{wrong}: {message}");
        }
        assert_eq!(spiffe_id(WEB).unwrap().as_str(), WEB);
    }
}
