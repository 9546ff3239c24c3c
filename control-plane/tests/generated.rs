//! Pages that are made of our tables are checked in, and are what the tables say today. `OUTRIGGER_BLESS=1` writes them.

use std::{fs, path::Path};

use outrigger_control_plane::inject;

#[test]
fn generated_pages_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/annotations.md");
    let wanted = inject::page();
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        fs::write(&path, wanted).expect("it can be written");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == wanted, "{} is out of date: run this test with OUTRIGGER_BLESS=1", path.display());
}
