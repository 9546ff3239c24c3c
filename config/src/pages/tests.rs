use clap::Arg;

use super::*;

/// A program and a command with dashes, one that is hidden, and examples that a formatter could take for requests.
fn program() -> Command {
    Command::new("a-b")
        .version("1")
        .subcommand(Command::new("c-d").arg(Arg::new("e").long("e-f")).after_help("Examples:\n  a-b c-d\n.x\n'y\\z"))
        .subcommand(Command::new("h").hide(true))
}

fn args(dir: Option<&Path>, command: &[&str]) -> ManArgs {
    ManArgs { dir: dir.map(Path::to_owned), command: command.iter().map(ToString::to_string).collect() }
}

#[test]
fn names_with_dashes_have_one_spelling_in_bash() {
    let script = completions(Shell::Bash, program());
    // Each is entered when its name was typed, and has a case of its own with its flags.
    for state in ["a__b", "a__b__subcmd__c__subcmd__d"] {
        assert!(script.contains(&format!("cmd=\"{state}\"")), "{state} is never entered:\n{script}");
        assert!(script.contains(&format!("        {state})\n            opts=\"")), "{state} has no flags:\n{script}");
    }
    assert!(!script.contains("a__subcmd__b"), "{script}");
}

#[test]
fn examples_keep_their_lines() {
    let page = man(&args(None, &["c-d"]), program()).expect("the command is there").expect("it is not written");
    assert!(page.contains(".SH EXAMPLES\n.nf\n  a\\-b c\\-d\n\\&.x\n\\&'y\\ez\n.fi\n"), "{page}");
}

#[test]
fn an_unknown_command_is_told_with_those_that_are_there() {
    let error = man(&args(None, &["c-d", "x"]), program()).expect_err("there is none");
    assert_eq!(error.to_string(), "c-d has no command \"x\"; there are: ");
    let error = man(&args(None, &["x"]), program()).expect_err("there is none");
    assert!(error.to_string().starts_with("a-b has no command \"x\"; there are: c-d"), "{error}");
}

#[test]
fn a_directory_gets_the_pages_of_what_is_offered() {
    let dir = std::env::temp_dir().join(format!("outrigger-pages-{}", std::process::id()));
    assert!(man(&args(Some(&dir), &[]), program()).expect("it can be written").is_none());
    let mut names: Vec<_> = fs::read_dir(&dir).expect("it is there").map(|f| f.expect("a file").file_name()).collect();
    names.sort();
    // What is no directory cannot become one.
    let error = man(&args(Some(&dir.join("a-b.1")), &[]), program()).expect_err("a file");
    fs::remove_dir_all(&dir).expect("it can be removed");
    assert_eq!(names, ["a-b-c-d.1", "a-b.1"]);
    assert!(matches!(error, PageError::Making { .. }), "{error}");
}
