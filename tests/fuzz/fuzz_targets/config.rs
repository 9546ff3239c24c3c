//! Any bytes as a configuration: no panic, no hang; and what is read prints and reads back to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_config::{Source, compile, parse, validate};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let source = Source { name: "fuzz".into(), text: text.to_owned() };
    if let Ok(documents) = parse(&source) {
        for document in documents {
            let printed = document.to_yaml();
            let again = parse(&Source { name: "printed".into(), text: printed.clone() });
            assert_eq!(again.as_deref(), Ok(&[document][..]), "{printed}");
        }
    }
    let sources = [source];
    let faults = validate(&sources);
    if let Err(told) = compile(&sources) {
        assert!(!told.is_empty(), "refused without a reason; validate says {faults:?}");
    }
});
