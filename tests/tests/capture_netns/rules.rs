//! Rules come, are replaced and go, whatever installs them; and who may not, or writes nonsense, is told.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
};

use outrigger_tests::{
    binary,
    netns::{Net, Pod},
    peers,
};
use tempfile::TempDir;

use super::mesh::{APP, Mesh, PORT, VIP};

fn run(pod: &Pod, action: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    told(pod.redirect(action, flags).output().expect("ip runs"))
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A directory of links to these programs, to be a `PATH`.
fn path_of(scenario: &str, programs: &[&str]) -> Option<TempDir> {
    let dir = TempDir::new().expect("a temporary directory");
    for name in programs {
        symlink(peers::program(scenario, name)?, dir.path().join(name)).expect("the directory is empty");
    }
    Some(dir)
}

const IPTABLES: [&str; 4] = ["iptables-nft", "iptables-nft-restore", "ip6tables-nft", "ip6tables-nft-restore"];
const EVERY_FLAG: [&str; 16] = [
    "--inbound-port=19992",
    "--outbound-port=19991",
    "--proxy-uid=4294967294",
    "--skip-inbound-ports=22,1-20,65535,8000-8010",
    "--skip-outbound-ports=1-52,54,3306",
    "--skip-outbound-cidrs=0.0.0.0/1,10.0.0.0/8,192.0.2.7,::/1,fd00::/8,2001:db8::1",
    "--skip-uids=0,1000,1001",
    "--capture-inbound-ports=1-65535",
    "--inbound-mode=tproxy",
    "--backend=auto",
    "--ip-families=both",
    "-v",
    "--log-format=json",
    "-v",
    "-v",
    "-v",
];

#[test]
fn netns_redirect_twice_is_once_and_removal_leaves_nothing() {
    let Some(net) = Net::start("netns_redirect_twice_is_once") else { return };
    let pod = net.pod();
    assert_eq!(pod.rules(), "");
    for flags in [&[][..], &["--inbound-mode", "tproxy"], &EVERY_FLAG, &["--capture-inbound-ports", "9990"]] {
        let (code, out, err) = run(&pod, "install", flags);
        assert_eq!(code, Some(0), "{flags:?}: {out}{err}");
        let first = pod.rules();
        assert!(first.starts_with("table inet outrigger {"), "{first}");
        run(&pod, "install", flags);
        assert_eq!(pod.rules(), first, "twice is once");
    }
    // Changed flags take the place of what was there.
    pod.capture_with(&["--skip-outbound-ports", "3306"]);
    let rules = pod.rules();
    assert!(rules.contains("3306") && !rules.contains("19992") && !rules.contains("tproxy"), "{rules}");
    // Rules of others stay.
    let nft =
        |script: &str| assert!(pod.exec(Path::new("nft")).arg(script).status().expect("ip runs").success(), "{script}");
    nft("add table inet theirs; add chain inet theirs in");
    let (code, out, _) = run(&pod, "remove", &["--skip-outbound-ports", "3306"]);
    assert_eq!((code, &*out), (Some(0), "removed table inet outrigger\n"));
    assert_eq!(pod.rules(), "table inet theirs {\n\tchain in {\n\t}\n}\n");
    nft("delete table inet theirs");
    assert_eq!(run(&pod, "remove", &[]).1, "nothing to remove\n");
    assert_eq!(pod.rules(), "");
    let lines = |args: &[&str]| told(pod.exec(Path::new("ip")).args(args).output().expect("ip runs")).1.lines().count();
    assert_eq!((lines(&["rule"]), lines(&["-6", "rule"])), (3, 2), "routing is as it was");
}

#[test]
fn netns_redirect_print_is_what_install_feeds() {
    let Some(net) = Net::start("netns_redirect_print_is_what_install_feeds") else { return };
    let (fed, installed) = (net.pod(), net.pod());
    for flags in [&[][..], &["--inbound-mode", "tproxy", "--skip-uids", "7"], &EVERY_FLAG] {
        // As nobody, in a network of somebody else.
        let mut print = fed.exec_as(65534, binary::proxy());
        let (code, script, err) = told(print.args(["redirect", "print"]).args(flags).output().expect("ip runs"));
        assert_eq!(code, Some(0), "{err}");
        assert!(script.starts_with("# nft -f -\n"), "{script}");
        let file = TempDir::new().expect("a temporary directory");
        fs::write(file.path().join("rules"), &script).expect("the directory is writable");
        let nft = fed.exec(Path::new("nft")).arg("-f").arg(file.path().join("rules")).status().expect("ip runs");
        assert!(nft.success(), "{script}");
        installed.capture_with(flags);
        assert_eq!(fed.rules(), installed.rules());
    }
}

#[test]
fn netns_redirect_falls_back_to_iptables() {
    let scenario = "netns_redirect_falls_back_to_iptables";
    let Some(path) = path_of(scenario, &IPTABLES) else { return };
    let without_nft = |pod: &Pod, action: &str, flags: &[&str]| {
        let mut command = Command::new("env");
        // The program of the pod is found by `ip`, and has a path without nft.
        let inner = pod.redirect(action, flags);
        let args: Vec<_> = inner.get_args().map(ToOwned::to_owned).collect();
        let (before, after) = args.split_at(3);
        command
            .arg(inner.get_program())
            .args(before)
            .arg("env")
            .arg(format!("PATH={}", path.path().display()))
            .args(after);
        told(command.output().expect("env runs"))
    };
    let capture = |pod: &Pod| {
        let (code, out, err) = without_nft(pod, "install", &[]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("installed with iptables-nft-restore"), "{out}");
    };
    let Some(mesh) = Mesh::start_with(scenario, "strict", capture) else { return };
    let _app = mesh.api.app(PORT);
    for url in
        [format!("http://{VIP}/"), format!("http://{}/", mesh.api.at(PORT)), format!("http://{}/", mesh.api.at6(PORT))]
    {
        assert_eq!(mesh.web.get(&url), "api", "{url}");
    }
    assert!(mesh.web.connections("outbound", "downstream", "false") > 2.5);
    assert!(mesh.api.connections("inbound", "downstream", "true") > 0.5);
    // Twice is once; other flags take the place of these.
    let pod = &mesh.web.pod;
    let first = pod.rules();
    capture(pod);
    assert_eq!(pod.rules(), first);
    assert_eq!(first.matches("jump OUTRIGGER_INBOUND").count(), 2, "one for each version of IP: {first}");
    let flags = [
        "--skip-outbound-ports",
        "80,8000-8010",
        "--skip-outbound-cidrs",
        "10.88.0.0/16,fd88::/16",
        "--skip-uids",
        "7",
    ];
    let (code, _, err) = without_nft(pod, "install", &flags);
    assert_eq!(code, Some(0), "{err}");
    let before = mesh.web.connections("outbound", "downstream", "false");
    assert!(!pod.curl(APP, &["-m", "1", &format!("http://{VIP}/")]).0, "nobody has that address");
    assert!(mesh.web.connections("outbound", "downstream", "false") - before < 0.5);
    // nft takes over from iptables without a leftover, and back.
    pod.capture();
    let rules = pod.rules();
    assert!(rules.contains("table inet outrigger") && !rules.contains("OUTRIGGER"), "{rules}");
    pod.capture_with(&["--backend", "iptables", "--inbound-mode", "tproxy"]);
    let rules = pod.rules();
    assert!(!rules.contains("table inet outrigger") && rules.contains("OUTRIGGER_TPROXY"), "{rules}");
    // Where nft is there too, not even an empty table is left.
    assert_eq!(run(pod, "remove", &[]).0, Some(0));
    assert_eq!(pod.rules(), "");
    let (code, out, err) = without_nft(&mesh.api.pod, "remove", &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let rules = mesh.api.pod.rules();
    assert!(!rules.contains("OUTRIGGER") && !rules.contains("chain"), "{rules}");
}

#[test]
fn netns_redirect_with_iptables_that_fails_for_ipv6_changes_nothing() {
    let scenario = "netns_redirect_with_iptables_that_fails";
    let (Some(net), Some(path)) = (Net::start(scenario), path_of(scenario, &IPTABLES[..3])) else { return };
    let restore = path.path().join(IPTABLES[3]);
    let pod = net.pod();
    let redirect = |action: &str, flags: &[&str]| {
        let mut command = pod.exec(Path::new("env"));
        command.arg(format!("PATH={}", path.path().display())).arg(binary::proxy()).args(["redirect", action]);
        told(command.args(flags).output().expect("ip runs"))
    };
    let fails = || {
        fs::write(&restore, "#!/bin/sh\necho 'no table nat' >&2\nexit 1\n").expect("the directory is writable");
        fs::set_permissions(&restore, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        for mode in ["redirect", "tproxy"] {
            let flags = ["--ip-families", "both", "--inbound-mode", mode, "--skip-outbound-ports", "3306"];
            let (code, out, err) = redirect("install", &flags);
            assert!(code == Some(1) && out.is_empty() && err.contains("no table nat"), "{out}{err}");
        }
        fs::remove_file(&restore).expect("the file is ours");
    };
    fails();
    assert!(!pod.rules().contains("OUTRIGGER"), "{}", pod.rules());
    // What was there before stays as it was.
    let works = peers::program(scenario, IPTABLES[3]).expect("Net::start has iptables");
    symlink(works, &restore).expect("it is gone");
    let (code, _, err) = redirect("install", &["--ip-families", "both", "--skip-outbound-ports", "6379"]);
    assert_eq!(code, Some(0), "{err}");
    let before = pod.rules();
    assert!(before.contains("6379"), "{before}");
    fs::remove_file(&restore).expect("the file is ours");
    fails();
    assert_eq!(pod.rules(), before);
}

#[test]
fn netns_redirect_without_privilege_or_program_says_what_is_missing() {
    let scenario = "netns_redirect_without_privilege";
    let Some(net) = Net::start(scenario) else { return };
    let pod = net.pod();
    let redirect =
        |mut command: Command, action: &str| told(command.args(["redirect", action]).output().expect("ip runs"));
    // Root without the capability, and a user without any.
    let mut bounded = pod.exec(Path::new("setpriv"));
    bounded.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]).arg(binary::proxy());
    for (command, action) in [
        (bounded, "install"),
        (pod.exec_as(APP, binary::proxy()), "install"),
        (pod.exec_as(APP, binary::proxy()), "remove"),
    ] {
        let (code, out, err) = redirect(command, action);
        assert_eq!((code, &*out), (Some(1), ""), "{err}");
        assert!(err.contains("NET_ADMIN") && err.contains("help:"), "{err}");
    }
    // Neither program.
    let empty = TempDir::new().expect("a temporary directory");
    let mut nothing = pod.exec(Path::new("env"));
    nothing.arg(format!("PATH={}", empty.path().display())).arg(binary::proxy());
    let (code, _, err) = redirect(nothing, "install");
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no program nft in PATH") && err.contains("package nftables"), "{err}");
    assert_eq!(pod.rules(), "");
}

#[test]
fn wrong_flags_of_redirect_are_wrong_usage() {
    for (flag, value, word) in [
        ("--inbound-port", "70000", "1 to 65535"),
        ("--inbound-port", "9991", "both 9991"),
        ("--outbound-port", "9990", "admin port"),
        ("--skip-inbound-ports", "80;flush ruleset", "1 to 65535"),
        ("--skip-outbound-ports", "9-1", "write 1-9"),
        ("--skip-outbound-cidrs", "10.0.0.1/8", "write 10.0.0.0/8"),
        ("--skip-uids", "root", "its number"),
        ("--inbound-mode", "ebpf", "tproxy"),
    ] {
        for action in ["install", "remove", "print"] {
            let command = || Command::new(binary::proxy());
            let variable =
                format!("OUTRIGGER_REDIRECT_{}", flag.trim_start_matches("--").to_uppercase().replace('-', "_"));
            let by_flag = command().args(["redirect", action, flag, value]).output();
            let by_variable = command().args(["redirect", action]).env(variable, value).output();
            for output in [by_flag, by_variable] {
                let (code, out, err) = told(output.expect("the program runs"));
                assert_eq!((code, &*out), (Some(2), ""), "{flag} {value}: {err}");
                assert!(err.contains(word), "{flag} {value}: {err}");
            }
        }
    }
}
