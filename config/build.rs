//! Generates the code of the discovery protocol and of the SPIFFE Workload API. The compiler is Rust, so a build needs no `protoc`.

use std::error::Error;

const PROTOCOL: &str = "outrigger/discovery/v1alpha1/discovery.proto";
const WORKLOAD: &str = "spiffe/workload.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([PROTOCOL], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    // Keys come in these: they must not be printed, and are plain vectors so that they can be wiped.
    let descriptors = protox::compile([WORKLOAD], ["proto"])?;
    tonic_prost_build::configure().skip_debug(["X509SVID", "X509SVIDResponse"]).compile_fds(descriptors)?;
    Ok(())
}
