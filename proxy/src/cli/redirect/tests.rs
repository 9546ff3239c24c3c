use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RedirectArgs,
}

fn plan(args: &[&str]) -> Result<Plan, String> {
    let line = ["x", "print"].iter().chain(args);
    let Action::Print(flags) = Line::try_parse_from(line).map_err(|e| e.to_string())?.args.action else {
        return Err("not print".into());
    };
    flags.plan().map(|(plan, _)| plan)
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let plan = plan(&[]).unwrap();
    assert_eq!((plan.inbound_port, plan.outbound_port, plan.proxy_uid), (9992, 9991, 2112));
    assert_eq!((plan.mode, plan.families), (Mode::Redirect, Families::Auto));
}

#[test]
fn every_flag_has_its_variable() {
    use clap::CommandFactory as _;
    let command = Line::command();
    for action in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let flags: Vec<_> = action.get_arguments().filter_map(|a| Some((a.get_long()?, a.get_env()))).collect();
        let flags: Vec<_> = flags.into_iter().filter(|(long, _)| *long != "help").collect();
        assert_eq!(flags.len(), 11, "{}", action.get_name());
        for (long, env) in flags {
            let variable = format!("OUTRIGGER_REDIRECT_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(env.and_then(|e| e.to_str()), Some(&*variable));
        }
    }
}

#[test]
fn wrong_flags_are_told_with_what_would_be_right() {
    for (args, word) in [
        (&["--inbound-port", "0"][..], "1 to 65535"),
        (&["--inbound-port", "9990"], "admin port"),
        (&["--inbound-port", "9991"], "both 9991"),
        (&["--outbound-port", "80-90"], "is no port"),
        (&["--outbound-port", ""], "is no port"),
        (&["--proxy-uid", "outrigger"], "is no user"),
        (&["--skip-inbound-ports", "80;90"], "is no port"),
        (&["--skip-outbound-ports", "90-80"], "80-90"),
        (&["--skip-outbound-cidrs", "10.0.0.1/8"], "10.0.0.0/8"),
        (&["--skip-uids", "root"], "is no user"),
        (&["--inbound-mode", "nat"], "tproxy"),
        (&["--backend", "ebpf"], "iptables"),
        (&["--ip-families", "v4"], "ipv4"),
    ] {
        let said = plan(args).unwrap_err();
        assert!(said.contains(word), "{args:?}: {said}");
    }
}
