//! `explain`: what a request would get, decided by the code that decides for live requests.

use std::{fmt::Display, io, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use outrigger_config::explain::{ExplainRequest, Offline, explain};

use super::{DONE, FOUND_FAULTS, print_faults, say, usage};
use crate::control::sources;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(super) struct ExplainArgs {
    /// Files of YAML documents, or directories of *.yaml and *.yml files
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    config: Vec<PathBuf>,
    /// Name of the listener that takes the request
    #[arg(long, value_name = "NAME")]
    listener: String,
    /// Method of the request
    #[arg(short = 'X', long = "method", value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", num_args = 1)]
    headers: Vec<String>,
    /// Identity of the caller
    #[arg(long, value_name = "SPIFFE_ID")]
    from: Option<String>,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
    /// URL of the request
    #[arg(value_name = "URL")]
    url: String,
}

/// How `explain` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

pub(super) fn run(args: &ExplainArgs) -> ExitCode {
    let request = match ExplainRequest::new(&args.method, &args.url, &args.headers, args.from.as_deref()) {
        Ok(request) => request,
        Err(e) => return usage(&e.to_string()),
    };
    let (sources, mut faults) = sources::load(&args.config);
    let compiled = if faults.is_empty() { outrigger_config::compile(&sources) } else { Err(Vec::new()) };
    let model = match compiled {
        Ok(compiled) => compiled.model,
        Err(more) => {
            faults.extend(more);
            print_faults(&mut io::stderr(), &faults);
            return ExitCode::from(FOUND_FAULTS);
        }
    };
    let explanation = match explain(&model, &args.listener, &request, &Offline) {
        Ok(explanation) => explanation,
        Err(e) => return usage(&e.to_string()),
    };
    match args.output {
        Output::Text => print(&explanation),
        Output::Json => match serde_json::to_string_pretty(&explanation) {
            Ok(json) => print(&json),
            Err(e) => {
                say(&mut io::stderr(), &format!("error: the explanation is no JSON: {e}\n"));
                return ExitCode::from(FOUND_FAULTS);
            }
        },
    }
    ExitCode::from(DONE)
}

fn print(text: &impl Display) {
    let text = text.to_string();
    say(&mut io::stdout(), &format!("{}\n", text.trim_end()));
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  outrigger-proxy explain --config proxy.yaml --listener outbound http://payments/charge
  outrigger-proxy explain --config /etc/outrigger --listener inbound -X POST -H 'x-beta: 1' \\
      --from spiffe://cluster.local/ns/shop/sa/web -o json http://orders/orders/7";
