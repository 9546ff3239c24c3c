//! The mutating webhook in a real API server: the chart as Helm installs it, the control plane as its Deployment runs it, reached
//! through its Service; and pods of every sort.

#[path = "kube_inject/away.rs"]
mod away;
#[path = "kube_inject/odd.rs"]
mod odd;
#[path = "kube_inject/pods.rs"]
mod pods;
#[path = "kube_inject/twice.rs"]
mod twice;
#[allow(dead_code, reason = "it belongs to another scenario, which uses all of it")]
#[path = "kube_chart/world.rs"]
mod world;
