//! `outrigger`: the control plane and the people's command line. All of it is in [`outrigger_control_plane::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    outrigger_control_plane::cli::main()
}
