//! `outrigger inject` and `uninject` as people type them; completions in a real shell; manual pages.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use outrigger_tests::binary;
use serde_json::Value;
use tempfile::TempDir;

fn run(program: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // A program that reads nothing closes the pipe: no fault of the test.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it writes");
    output
}

fn outrigger(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = run(binary::outrigger(), args, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const POD: &str = "# the app\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web # one\nspec:\n  containers:\n  - name: web\n    image: nginx\n";
const OTHER: &str = "apiVersion:   v1 # odd\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a:   'b'}\n";

#[test]
fn inject_and_uninject_in_a_pipe() {
    let input = format!("{OTHER}---\n{POD}");
    let (code, meshed, words) = outrigger(&["inject"], &input);
    assert_eq!(code, Some(0), "{words}");
    assert!(
        meshed.starts_with(OTHER) && meshed.contains("# the app\n") && meshed.contains("name: web # one\n"),
        "{meshed}"
    );
    assert!(meshed.contains("name: outrigger-proxy") && meshed.contains("name: outrigger-redirect"), "{meshed}");
    assert!(words.contains("stdin:7: Pod web injected") && !words.contains("ConfigMap"), "{words}");
    let (code, again, words) = outrigger(&["inject", "-f", "-"], &meshed);
    assert!(code == Some(0) && again == meshed && words.contains("already"), "{words}");
    let (code, back, _) = outrigger(&["uninject", "-"], &meshed);
    assert!(code == Some(0) && back == input, "{back}");
    let (_, _, words) = outrigger(&["inject", "-v", "--log-format", "json"], &input);
    let lines: Vec<Value> = words.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 2, "{words}");
    assert_eq!(
        (&lines[1]["result"], &lines[1]["name"], &lines[1]["line"]),
        (&"injected".into(), &"web".into(), &7.into())
    );
}

#[test]
fn flags_set_what_is_injected() {
    let args = [
        "inject",
        "--proxy-image",
        "r.example/o:1",
        "--native-sidecars",
        "false",
        "--mesh-namespace",
        "mesh",
        "--trust-domain",
        "shop.example",
        "-o",
        "json",
    ];
    let (code, text, words) = outrigger(&args, POD);
    assert_eq!(code, Some(0), "{words}");
    let pod: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    assert_eq!(
        (containers[0]["name"].as_str(), containers[0]["image"].as_str()),
        (Some("outrigger-proxy"), Some("r.example/o:1"))
    );
    assert!(text.contains("outrigger-control-plane.mesh.svc") && text.contains("shop.example"), "{text}");
    let (_, text, _) = outrigger(&["inject", "-o", "json"], &format!("{POD}---\n{OTHER}"));
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));
    for args in [
        &["inject", "--trust-domain", "no/domain"][..],
        &["inject", "--proxy-default", "nonsense"],
        &["inject", "--native-sidecars", "maybe"],
        &["inject", "-", "-"],
    ] {
        let (code, out, words) = outrigger(args, POD);
        assert!(code == Some(2) && out.is_empty() && !words.is_empty(), "{args:?}: {code:?} {words}");
    }
}

#[test]
fn labels_opt_out_and_refusals_are_told() {
    let out = POD.replace("  name: web # one\n", "  name: web\n  labels: {outrigger.dev/inject: disabled}\n");
    let (code, text, words) = outrigger(&["inject"], &out);
    assert!(code == Some(0) && text == out && words.contains("skipped") && words.contains("disabled"), "{words}");
    let space =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {outrigger.dev/inject: disabled}}\n---\n";
    let there = format!("{space}{}", POD.replace("  name: web # one\n", "  name: web\n  namespace: shop\n"));
    let (code, text, words) = outrigger(&["inject"], &there);
    assert!(code == Some(0) && text == there && words.contains("namespace says disabled"), "{words}");
    let host = POD.replace("spec:\n", "spec:\n  hostNetwork: true\n");
    let both = format!("{host}---\n{POD}");
    let (code, text, words) = outrigger(&["inject"], &both);
    assert!(code == Some(1) && text.starts_with(&host) && text.contains("outrigger-proxy"), "{words}");
    assert!(
        words.contains("stdin:2: Pod web refused: spec.hostNetwork") && words.contains("Pod web injected"),
        "{words}"
    );
}

#[test]
fn nothing_is_printed_unless_all_can_be_read() {
    let dir = TempDir::new().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("a.yaml"), POD).expect("writable");
    fs::write(path("b.yml"), "a:\n  b: 1\n\tc: 2\n").expect("writable");
    fs::write(path("c.txt"), "\0").expect("writable");
    let whole = dir.path().display().to_string();
    let (code, text, words) = outrigger(&["inject", "-f", &whole], "");
    assert!(
        code == Some(1) && text.is_empty() && words.contains(&format!("{}:2:", path("b.yml"))),
        "{code:?} {text} {words}"
    );
    fs::write(path("b.yml"), OTHER).expect("writable");
    let (code, text, words) = outrigger(&["inject", "-f", &whole], "");
    assert!(code == Some(0) && text.ends_with(&format!("---\n{OTHER}")), "{text} {words}");
    for (bytes, word) in [(&b"a: \xff"[..], "UTF-8"), (b"a: b\0", "NUL"), (b"a: 1\na: 2\n", "twice")] {
        fs::write(path("d.yaml"), bytes).expect("writable");
        let (code, text, words) = outrigger(&["inject", &path("d.yaml")], "");
        assert!(code == Some(1) && text.is_empty() && words.contains("d.yaml:") && words.contains(word), "{words}");
    }
    let (code, _, words) = outrigger(&["inject", "-f", &path("none.yaml")], "");
    assert!(code == Some(1) && words.contains("none.yaml"), "{words}");
    for nothing in ["", "# nothing\n", "---\n"] {
        let (code, text, _) = outrigger(&["inject"], nothing);
        assert!(code == Some(0) && text == nothing, "{text:?}");
    }
}

/// What bash offers behind these words, by the function that the script registers.
fn offered(program: &Path, words: &str) -> Vec<String> {
    let name = program.file_name().and_then(|name| name.to_str()).expect("a name");
    let script = format!(
        "source <(\"$1\" completions bash) || exit 3\n\
         how=$(complete -p {name}) || exit 4\n\
         [[ $how =~ -F\\ ([^ ]+) ]] || exit 5\n\
         COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         \"${{BASH_REMATCH[1]}}\" {name} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let output = Command::new("bash").args(["--norc", "-c", &script, "bash"]).arg(program).output().expect("bash runs");
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    assert_eq!(offered(binary::outrigger(), "outrigger unin"), ["uninject"]);
    assert_eq!(offered(binary::outrigger(), "outrigger inject --native-sidecars ''"), ["auto", "true", "false"]);
    assert!(offered(binary::outrigger(), "outrigger ca ''").contains(&"issue".to_owned()));
    let flags = offered(binary::outrigger(), "outrigger control-plane --lea");
    assert_eq!(flags, ["--lease"], "a command with a dash has its flags");
    assert_eq!(offered(binary::proxy(), "outrigger-proxy vali"), ["validate"]);
    assert!(offered(binary::proxy(), "outrigger-proxy run --control").contains(&"--control-plane".to_owned()));
    for program in [binary::outrigger(), binary::proxy()] {
        for (shell, word) in [("zsh", "#compdef"), ("fish", "complete -c")] {
            let output = run(program, &["completions", shell], "");
            assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(word), "{shell}");
        }
        assert_eq!(run(program, &["completions", "cmd"], "").status.code(), Some(2));
    }
}

#[test]
fn manual_pages_are_whole() {
    let dir = TempDir::new().expect("a directory");
    for (program, pages) in [
        (binary::outrigger(), &["outrigger.1", "outrigger-inject.1", "outrigger-ca-issue.1"][..]),
        (binary::proxy(), &["outrigger-proxy.1", "outrigger-proxy-run.1"]),
    ] {
        let out = dir.path().join("man1");
        let output = run(program, &["man", "--dir", &out.display().to_string()], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for page in pages {
            let text = fs::read_to_string(out.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
            for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES\n.nf\n"] {
                assert!(text.contains(part), "{page} has no {part:?}");
            }
        }
        let one = run(program, &["man"], "").stdout;
        assert_eq!(one, fs::read(out.join(pages[0])).expect("a page"));
        assert_eq!(run(program, &["man", "nonsense"], "").status.code(), Some(2));
        let into_a_file = run(program, &["man", "--dir", &out.join(pages[0]).display().to_string()], "");
        let words = String::from_utf8_lossy(&into_a_file.stderr).into_owned();
        assert!(into_a_file.status.code() == Some(1) && words.matches("exists").count() == 1, "{words}");
    }
    let page = dir.path().join("man1/outrigger-inject.1");
    let shown = Command::new("man").arg("-l").arg(page).env("MANWIDTH", "200").env("MANPAGER", "cat").output();
    match shown {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("  outrigger inject -f shop.yaml | kubectl apply -f -\n"), "{text}");
        }
        // The generator's output was looked at above; a formatter is no part of what is shipped.
        _ => println!("skipped: no `man` to show the page with"),
    }
}
