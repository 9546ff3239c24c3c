//! The choice among programs, with programs that are shell scripts.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use super::{super::tests::wish, *};

fn plan() -> Plan {
    Plan::new(wish()).unwrap()
}

/// A directory of programs that write how they were called to `calls`.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(self, name: &str, body: &str) -> Self {
        let file = self.path().join(name);
        let calls = self.path().join("calls").display().to_string();
        fs::write(&file, format!("#!/bin/sh\nPATH=/usr/bin:/bin\necho {name} \"$@\" >> {calls}\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn system(&self) -> System {
        System::with(self.path(), Some(true), true)
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }
}

/// `nft` that takes everything, and has no table but ours.
const NFT: &str = "case \"$*\" in '-f -') cat > \"${0%/*}/fed\";; 'list tables') echo 'table inet outrigger';; esac";

#[test]
fn nft_is_fed_what_print_shows() {
    let programs = Programs::new().put("nft", NFT);
    let done = install(&plan(), Backend::Auto, &programs.system()).unwrap();
    assert_eq!(done.installed, "nft (table inet outrigger)");
    assert_eq!(done.removed, Vec::<String>::new());
    let fed = fs::read_to_string(programs.path().join("fed")).unwrap();
    let printed = preview(&plan(), Backend::Auto, &programs.system());
    assert_eq!(printed.strip_prefix("# nft -f -\n"), Some(&*fed));
}

#[test]
fn a_kernel_without_inet_nat_gets_a_table_for_each_version() {
    let refuses = "case \"$*\" in '-f -') if grep -q 'table inet'; then echo 'Not supported' >&2; exit 1; fi;; esac";
    let programs = Programs::new().put("nft", refuses);
    let done = install(&plan(), Backend::Auto, &programs.system()).unwrap();
    assert_eq!(done.installed, "nft (tables ip outrigger and ip6 outrigger)");
    assert!(done.tried[0].contains("Not supported"), "{:?}", done.tried);
}

#[test]
fn iptables_is_used_where_only_that_is_there() {
    let programs = Programs::new()
        .put("iptables-nft", "exit 1")
        .put("ip6tables-nft", "exit 1")
        .put("iptables-nft-restore", "cat > /dev/null")
        .put("ip6tables-nft-restore", "cat > /dev/null");
    let done = install(&plan(), Backend::Auto, &programs.system()).unwrap();
    assert_eq!(done.installed, "iptables-nft-restore");
    assert!(done.tried[0].contains("there is no program nft in PATH"), "{:?}", done.tried);
    assert!(programs.calls().contains("ip6tables-nft-restore --noflush -w 10"), "{}", programs.calls());
    let printed = preview(&plan(), Backend::Auto, &programs.system());
    assert!(printed.starts_with("# iptables-nft-restore --noflush -w 10\n*nat\n"), "{printed}");
}

/// Both names lead to the same rules, as on Debian: what was just installed is not taken for a leftover.
#[test]
fn an_alias_of_iptables_is_no_other_program() {
    let looks = "case \"$*\" in -V) echo 'iptables v1.8.9 (nf_tables)';; *' -S OUTRIGGER_TPROXY') exit 1;; esac";
    let mut programs = Programs::new();
    for name in ["iptables", "iptables-nft", "ip6tables", "ip6tables-nft"] {
        programs = programs.put(name, looks).put(&format!("{name}-restore"), "cat > /dev/null");
    }
    let done = install(&plan(), Backend::Auto, &programs.system()).unwrap();
    assert_eq!((&*done.installed, done.removed.len()), ("iptables-nft-restore", 0));
    assert!(!programs.calls().contains(" -D "), "{}", programs.calls());
}

/// The older iptables makes its tables when it is asked about them, so it is asked only where they are.
#[test]
fn the_older_iptables_is_asked_only_where_it_has_tables() {
    let looks = "case \"$*\" in -V) echo 'iptables v1.8.9 (legacy)';; *' -X OUTRIGGER_INBOUND') touch \"${0%/*}/gone\";; \
                 *' -S OUTRIGGER_INBOUND') [ ! -e \"${0%/*}/gone\" ];; *) exit 1;; esac";
    let programs = Programs::new().put("iptables-legacy", looks);
    assert_eq!(remove(&programs.system()).unwrap().removed, Vec::<String>::new());
    assert_eq!(programs.calls(), "iptables-legacy -V\n");
    fs::write(programs.path().join("ip_tables_names"), "nat\n").unwrap();
    let removed = remove(&programs.system()).unwrap().removed;
    assert_eq!(removed, ["chain OUTRIGGER_INBOUND of iptables-legacy -t nat"]);
    assert!(!programs.calls().contains("-t mangle"), "{}", programs.calls());
}

#[test]
fn ipv6_that_cannot_be_captured_is_an_error() {
    let programs = Programs::new()
        .put("iptables-nft", "exit 1")
        .put("iptables-nft-restore", "cat > /dev/null")
        .put("ip6tables-nft", "exit 1")
        .put("ip6tables-nft-restore", "echo 'no table nat' >&2; exit 1");
    let said = install(&plan(), Backend::Auto, &programs.system()).unwrap_err().to_string();
    assert!(said.contains("no table nat") && said.contains("help:"), "{said}");
    // A kernel that has no IPv6 needs none.
    let without = System::with(programs.path(), Some(true), false);
    assert!(install(&plan(), Backend::Auto, &without).is_ok());
}

#[test]
fn nothing_is_tried_without_the_capability() {
    let programs = Programs::new().put("nft", "exit 0");
    let without = System::with(programs.path(), Some(false), true);
    let said = install(&plan(), Backend::Auto, &without).unwrap_err().to_string();
    assert!(said.contains("NET_ADMIN") && said.contains("capture: none"), "{said}");
    assert_eq!(programs.calls(), "");
    // Where only the kernel knows, its word is told the same way, and no other program is tried.
    let programs = Programs::new().put("nft", "echo 'Operation not permitted (you must be root)' >&2; exit 1");
    let unknown = System::with(programs.path(), None, true);
    let said = install(&plan(), Backend::Auto, &unknown).unwrap_err().to_string();
    assert!(said.contains("NET_ADMIN") && said.contains("you must be root"), "{said}");
    assert_eq!(programs.calls().lines().count(), 1);
}

#[test]
fn no_program_at_all_says_what_was_looked_for() {
    let programs = Programs::new();
    let said = install(&plan(), Backend::Auto, &programs.system()).unwrap_err().to_string();
    for word in ["nft (table inet", "iptables-nft-restore", "iptables-restore", "package nftables"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(remove(&programs.system()).unwrap().removed, Vec::<String>::new());
}

#[test]
fn what_another_way_has_left_goes_and_what_cannot_go_is_told() {
    let list = "case \"$*\" in '-f -') cat > \"${0%/*}/fed\";; 'list tables') \
                printf 'table inet outrigger\\ntable ip outrigger\\ntable ip nat\\n';; esac";
    let programs = Programs::new().put("nft", list);
    let done = install(&plan(), Backend::Auto, &programs.system()).unwrap();
    assert_eq!(done.removed, ["table ip outrigger"]);
    assert_eq!(fs::read_to_string(programs.path().join("fed")).unwrap(), "delete table ip outrigger\n");
    let done = remove(&programs.system()).unwrap();
    assert_eq!(done.removed, ["table inet outrigger", "table ip outrigger"]);
    // A chain that is there and stays there.
    let stays = "case \"$*\" in -V) echo 'v1.8.9 (nf_tables)';; *' -S '*) ;; *) echo busy >&2; exit 1;; esac";
    let programs = Programs::new().put("iptables-nft", stays);
    let said = remove(&programs.system()).unwrap_err().to_string();
    assert!(said.contains("OUTRIGGER_INBOUND of iptables-nft -t nat") && said.contains("busy"), "{said}");
}

/// Chains as files, and an `ip6tables` that takes nothing: what its sibling has done is undone.
#[test]
fn what_one_version_of_ip_has_got_goes_where_the_other_fails() {
    let looks = "here=${0%/*}; case \"$*\" in -V) echo 'v1.8.9 (nf_tables)';; \
                 *' -S '*) [ -e $here/$6 ] && cat $here/$6;; *' -X OUTRIGGER'*) rm $here/$6;; *) exit 1;; esac";
    let takes = "here=${0%/*}; cat > $here/fed; for c in $(sed -n 's/^:\\([A-Z_]*\\) .*/\\1/p' $here/fed); do \
                 grep \"^-A $c \" $here/fed > $here/$c; done";
    let refuses = "cat > /dev/null; echo 'no table nat' >&2; exit 1";
    let programs = || {
        Programs::new()
            .put("iptables-nft", looks)
            .put("iptables-nft-restore", takes)
            .put("ip6tables-nft", "exit 1")
            .put("ip6tables-nft-restore", refuses)
    };
    let fresh = programs();
    let said = install(&plan(), Backend::Iptables, &fresh.system()).unwrap_err().to_string();
    assert!(said.contains("no table nat"), "{said}");
    let chain = |programs: &Programs| fs::read_to_string(programs.path().join("OUTRIGGER_OUTBOUND"));
    assert!(chain(&fresh).is_err(), "{}", fresh.calls());
    // An older rule comes back.
    let older = programs();
    let old = "-A OUTRIGGER_OUTBOUND -p tcp -j REDIRECT --to-ports 7\n";
    fs::write(older.path().join("OUTRIGGER_OUTBOUND"), old).unwrap();
    assert!(install(&plan(), Backend::Iptables, &older.system()).is_err());
    assert_eq!(chain(&older).unwrap(), old, "{}", older.calls());
    assert!(!older.path().join("OUTRIGGER_INBOUND").exists());
}
