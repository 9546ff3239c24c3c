//! Two replicas of the control plane, one of which dies.

use outrigger_tests::{LONG, eventually};

use super::*;

#[test]
fn kube_netns_a_replica_that_dies_is_replaced_by_the_other() {
    let Some(world) = World::shared("kube_netns_a_replica_that_dies_is_replaced_by_the_other") else { return };
    let second = world.second_replica();
    let (web, one, two) = (world.pod("web-1", "web"), world.pod("orders-1", "orders"), world.pod("orders-2", "orders"));
    let _apps = [app(&one, "one"), app(&two, "two")];
    let ip = world.service("orders");
    set(&world, &[("orders-1", &one)]);
    // All proxies are with the first replica, for the second does not run yet; and it leads.
    let _servers = [world.proxy(&one, "orders-1", "orders"), world.proxy(&two, "orders-2", "orders")];
    let client = world.proxy(&web, "web-1", "web");
    let load = traffic(&web, &ip);
    reaches(&load, &["one"], LONG);
    world.replica.wait("the first leads", "leader", &[], |n| n == 1.0);
    assert_eq!(world.replica.sum("streams", &[]), 3.0);
    round_robin(&world);
    world.wait_condition("TrafficPolicy", "orders", "Accepted", "True");
    second.start(&world);
    second.wait_ready();
    assert_eq!((second.sum("streams", &[]), second.sum("leader", &[])), (0.0, 0.0));

    world.kill_control_plane();
    let killed = load.elapsed();
    set(&world, &[("orders-1", &one), ("orders-2", &two)]);
    reaches(&load, &["one", "two"], RECOVERY);
    println!("a change made when a replica was killed had its effect after {:?}", load.elapsed() - killed);
    eventually("all proxies are with the other", RECOVERY, || (second.sum("streams", &[]) == 3.0).then_some(()));
    println!("all proxies were with the other replica after {:?}", load.elapsed() - killed);
    assert!((client.metrics().sum("control_plane_connected", &[]) - 1.0).abs() < 0.1);

    // Status is written on, by the other.
    second.wait("the other leads", "leader", &[], |n| n == 1.0);
    println!("the other replica wrote status after {:?}", load.elapsed() - killed);
    let lease = world.cluster.get("Lease", &world.mesh, "outrigger-control-plane").expect("the Lease");
    assert_eq!(lease["spec"]["holderIdentity"], "b", "{lease}");
    let written = second.sum("status_writes_total", &[]);
    world.cluster.apply(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: later, namespace: {} }}\nspec:\n  \
         targetRefs: [{{ kind: Service, name: nowhere }}]\n  timeouts: {{ request: 3s }}",
        world.namespace
    ));
    let said = world.wait_condition("TrafficPolicy", "later", "Accepted", "False");
    assert_eq!(said["reason"], "TargetNotFound", "{said}");
    second.wait("by the other", "status_writes_total", &[], |n| n > written);
    none_failed(load, &second.log());
    drop(client);
}
