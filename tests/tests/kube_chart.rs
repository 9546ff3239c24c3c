//! The chart in a real API server with RBAC: installed by Helm, run by the real binary with nothing but its account's rights, reached
//! through its Services, upgraded, uninstalled.

#[path = "kube_chart/accepted.rs"]
mod accepted;
#[path = "kube_chart/checked.rs"]
mod checked;
#[path = "kube_chart/names.rs"]
mod names;
#[path = "kube_chart/rights.rs"]
mod rights;
#[path = "kube_chart/selected.rs"]
mod selected;
#[path = "kube_chart/upgrade.rs"]
mod upgrade;
#[path = "kube_chart/world.rs"]
mod world;
