use std::time::Duration;

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn durations() {
    assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
    assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(parse_duration("1h250ms"), Ok(Duration::from_millis(3_600_250)));
    for wrong in ["", "10", "s", "10x", "123456s", "-1s", "1.5s", "10s ", "é"] {
        assert!(parse_duration(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn run_wants_files_or_an_address_not_both() {
    let parse =
        |args: &[&str]| Cli::try_parse_from(std::iter::once("outrigger-proxy").chain(args.iter().copied())).map(|_| ());
    assert!(parse(&["run"]).is_err());
    assert!(parse(&["run", "--config", "a", "b"]).is_ok());
    assert!(parse(&["run", "--config", "a", "--config", "b"]).is_ok());
    assert!(parse(&["run", "--listen", ":1"]).is_err());
    assert!(parse(&["run", "--listen", ":1", "--to", ":2"]).is_ok());
    assert!(parse(&["run", "--listen", ":1", "--to", ":2", "--config", "a"]).is_err());
    assert!(parse(&["run", "--to", ":2"]).is_err());
    assert!(parse(&["run", "--control-plane", "x:1"]).is_ok());
    assert!(parse(&["run", "--control-plane", "x:1", "--config", "x"]).is_err());
    assert!(
        parse(&["explain", "--config", "a", "--listener", "l", "-X", "POST", "-H", "a: b", "-H", "c: d", "http://u/"])
            .is_ok()
    );
}
