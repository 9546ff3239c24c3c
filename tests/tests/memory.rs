//! What a proxy holds when it has nothing to do.

use std::time::Duration;

use outrigger_tests::{Origin, Proxy, Wire, eventually, process};

/// A second without a change, on a machine that is busy with other tests.
const SETTLED: Duration = Duration::from_secs(30);

#[test]
fn pages_that_only_the_start_needed_are_given_back() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: memory }}
spec:
  admin: {{ address: \"127.0.0.1:0\" }}
  listeners: [{{ name: outbound, address: \"127.0.0.1:0\", direction: outbound, forwardTo: {{ kind: Upstream, name: app }} }}]
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: app }}
spec: {{ endpoints: [{{ address: \"{}\" }}] }}
",
        origin.address()
    ));
    // The most that it ever had: this test may come too late to see it.
    let settled = eventually("half of the memory of the start is given back", SETTLED, || {
        let files = process::rss_of_files(proxy.pid());
        (files * 2 <= process::peak_rss(proxy.pid())).then_some(files)
    });
    // What was given back is there when it is needed, and that is less than a start needs.
    for _ in 0..100 {
        assert_eq!(Wire::connect(proxy.outbound()).get("/").status, 200);
    }
    let served = process::rss_of_files(proxy.pid());
    println!(
        "{} KiB at the start, {} settled, {} after requests",
        process::peak_rss(proxy.pid()) >> 10,
        settled >> 10,
        served >> 10
    );
    assert!(served < process::peak_rss(proxy.pid()));
}
