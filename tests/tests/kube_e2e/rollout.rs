//! A Deployment is rolled out while its clients call it.

use std::time::Duration;

use outrigger_tests::{LONG, Origin, Proxy, eventually, kube::Backend, netns::Pod};

use super::*;

/// Where a pod is in its life, as its endpoint says it.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    Ready,
    Draining,
    Gone,
}

/// A pod with its app and its proxy.
struct Running {
    name: &'static str,
    pod: Pod,
    proxy: Proxy,
    app: Origin,
    phase: Phase,
}

impl Running {
    fn start(world: &World, name: &'static str, phase: Phase) -> Self {
        let pod = world.pod(name, "orders");
        let app = app(&pod, name);
        let proxy = world.proxy(&pod, name, "orders");
        Self { name, pod, proxy, app, phase }
    }

    /// As the kubelet ends it: the app, and the native sidecar after it.
    fn end(mut self, world: &World) {
        self.proxy.signal("TERM");
        let status = self.proxy.wait_exit(Duration::from_secs(30));
        assert!(status.success(), "{} ended with {status}", self.name);
        drop(self.app);
        world.cluster.delete("Pod", &world.namespace, self.name);
    }
}

/// Writes the EndpointSlice as the EndpointSlice controller does.
fn publish(world: &World, pods: &[Running]) {
    let there = pods.iter().filter(|p| p.phase != Phase::Gone);
    let ips: Vec<_> = there.clone().map(|p| p.pod.ip().to_string()).collect();
    let backends: Vec<_> = there
        .zip(&ips)
        .map(|(p, ip)| match p.phase {
            Phase::Draining => Backend::draining(ip, p.name),
            phase => {
                Backend { ready: phase == Phase::Ready, serving: phase == Phase::Ready, ..Backend::ready(ip, p.name) }
            }
        })
        .collect();
    world.cluster.slice(&world.namespace, "orders", 1, "", PORT, &backends);
}

fn ready(pods: &[Running]) -> Vec<&'static str> {
    pods.iter().filter(|p| p.phase == Phase::Ready).map(|p| p.name).collect()
}

#[test]
fn kube_netns_a_rolling_update_fails_no_request() {
    let Some(world) = World::shared("kube_netns_a_rolling_update_fails_no_request") else { return };
    let web = world.pod("web-1", "web");
    let ip = world.service("orders");
    round_robin(&world);
    let mut pods: Vec<_> = ["old-1", "old-2", "old-3"].map(|name| Running::start(&world, name, Phase::Ready)).into();
    publish(&world, &pods);
    let client = world.proxy(&web, "web-1", "web");
    let load = traffic(&web, &ip);
    reaches(&load, &["old-1", "old-2", "old-3"], LONG);
    for new in ["new-1", "new-2", "new-3"] {
        // It is in the slice before it is ready, and gets nothing yet.
        pods.push(Running::start(&world, new, Phase::Starting));
        publish(&world, &pods);
        let began = load.elapsed();
        load.run_until(began + Duration::from_millis(200));
        assert!(load.since(began).iter().all(|s| s.endpoint != new), "{new} is not ready");
        pods.last_mut().expect("it was pushed").phase = Phase::Ready;
        publish(&world, &pods);
        reaches(&load, &ready(&pods), LONG);
        // The old one still serves, and is left alone.
        pods[0].phase = Phase::Draining;
        publish(&world, &pods);
        reaches(&load, &ready(&pods), LONG);
        // It is taken out and told to end in the same moment.
        pods[0].phase = Phase::Gone;
        publish(&world, &pods);
        pods.remove(0).end(&world);
    }
    assert_eq!(ready(&pods), ["new-1", "new-2", "new-3"]);
    reaches(&load, &ready(&pods), LONG);
    // All that are left terminate at once: they serve as long as nobody else does.
    for pod in &mut pods {
        pod.phase = Phase::Draining;
    }
    publish(&world, &pods);
    let began = load.elapsed();
    eventually("the last ones serve on", LONG, || (load.since(began).len() > 100).then_some(()));
    none_failed(load, &world.replica.log());
    drop(client);
}
