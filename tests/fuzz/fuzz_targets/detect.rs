//! Detection: no panic, an answer never changes, and there is one in time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_proxy::detect::{MAX_PREFIX, detect};

fuzz_target!(|bytes: &[u8]| {
    let mut found = None;
    for end in 0..=bytes.len().min(MAX_PREFIX + 8) {
        let now = detect(&bytes[..end]);
        assert!(found.is_none() || found == now, "changed from {found:?} to {now:?} at {end}");
        assert!(now.is_some() || end < MAX_PREFIX, "undecided at {end}");
        found = now;
    }
});
