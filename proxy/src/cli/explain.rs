//! `explain`: what a request would get, decided by the code that decides for live requests.

use std::{fmt::Display, io, process::ExitCode};

use outrigger_config::explain::{ExplainRequest, Offline, explain};

use super::{DONE, ExplainArgs, FOUND_FAULTS, Output, print_faults, say, usage};
use crate::control::sources;

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
