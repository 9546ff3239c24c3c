//! Any text as a path and a host: the normal form is a fixed point, and one that access is judged by has a single reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_config::matching::normal::{self, PathUse};
use outrigger_proxy::http::h1::valid_authority;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let came = format!("/{text}");
    for used in [PathUse::Route, PathUse::Access] {
        let Ok(normal) = normal::path(&came, used) else { continue };
        let normal = normal.as_deref().unwrap_or(&came);
        assert_eq!(normal::path(normal, used), Ok(None), "{came:?}");
        assert!(normal.starts_with('/') && normal.split('/').all(|s| s != "." && s != ".."), "{normal:?}");
        if used == PathUse::Access {
            assert!(!normal.contains("//") && !normal.contains(['\\', ';', '?', '#', '\0']), "{normal:?}");
        }
    }
    if valid_authority(data).is_some()
        && let Some(host) = normal::authority(text)
    {
        assert_eq!(normal::authority(&host), None, "{text:?}");
    }
});
