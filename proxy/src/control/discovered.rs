//! A proxy whose configuration comes from the control plane.
//!
//! It serves from the start: the app's connections are redirected to it whether there is a control plane or not, and what
//! is not known goes where the app sent it. Nothing is let in before it is known what the pod serves and who may
//! call it. Ready is such a proxy once it has an identity and its workload.

use std::{collections::HashMap, process::ExitCode, sync::Arc};

use outrigger_config::Compiled;

use super::{InPod, Proxy, Signals, StartError, report, runtime, wiring};
use crate::{
    cli::LogFormat,
    discovery::{
        Bootstrap, Discovery, Routing,
        agent::Agent,
        assemble::{self, Assembled, Mesh},
    },
    observe::diagnostics::Handle,
};

/// Runs a proxy in a pod until it ends: the subcommand `run --control-plane`.
#[must_use]
pub fn run(boot: Bootstrap, format: LogFormat, verbose: u8) -> ExitCode {
    let diagnostics = match wiring::diagnostics(format, verbose, None) {
        Ok(diagnostics) => diagnostics,
        Err(e) => return report(&e),
    };
    let result = start(Arc::new(boot), diagnostics);
    match result {
        Ok(code) => code,
        Err(e) => report(&e),
    }
}

fn start(boot: Arc<Bootstrap>, diagnostics: Handle) -> Result<ExitCode, StartError> {
    let empty = assemble::assemble(&boot, &Mesh::default(), std::iter::empty(), &HashMap::new());
    let Assembled { compiled, routing } = empty.map_err(StartError::Faults)?;
    runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let mut proxy = Proxy::start_in_pod(boot, compiled, routing, diagnostics).await?;
        Ok(proxy.serve(None, None, &mut signals).await.exit_code())
    })
}

impl Proxy {
    async fn start_in_pod(
        boot: Arc<Bootstrap>,
        compiled: Compiled,
        routing: Routing,
        diagnostics: Handle,
    ) -> Result<Self, StartError> {
        let pod = InPod { routing, app: boot.app.clone(), leave: boot.leave.clone() };
        Self::start_with(compiled, Some(pod), diagnostics, |shared, resolver| {
            let (discovery, asks) = Discovery::new();
            shared.set_discovery(Arc::clone(&discovery));
            let resolver = resolver.clone();
            let agent = Agent::new(boot, Arc::clone(shared), discovery, move || resolver.sync());
            // Ends with the runtime, which is that of the process.
            drop(tokio::spawn(agent.run(asks)));
        })
        .await
    }
}
