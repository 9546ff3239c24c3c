//! The page for people. It is one answer: style and script stand in it, and nothing comes from elsewhere.
//!
//! A policy lets only what carries this answer's nonce run, and only this origin be asked. The script puts
//! names from the configuration on the page as text, never as markup.

use std::hash::{BuildHasher, RandomState};

use http::{HeaderValue, StatusCode, header};

use super::routes::{Answer, finish};

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// The second file goes on where the first one ends.
const SCRIPT: &str = concat!(include_str!("page/script.js"), include_str!("page/panels.js"));

/// The page, with a nonce of its own.
pub(super) fn answer() -> Answer {
    // Two keyed hashes of the operating system's randomness: nobody can guess it, which is all that is asked.
    let nonce = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    let body = HTML.replace("NONCE", &nonce).replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut answer = finish(StatusCode::OK, "text/html; charset=utf-8", body.into_bytes());
    let policy = HeaderValue::try_from(policy).expect("the policy is plain ASCII");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}
