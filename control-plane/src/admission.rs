//! The webhooks: a document that no proxy could run is refused where it is written (`/validate`), and a pod that asks for a proxy gets
//! it where it is created (`/mutate`).
//!
//! The first runs the compiler that proxies and `validate` run, and answers with the same faults, each at the field that it is in. So
//! what is let in there is what a proxy takes, up to references: what a document names may come later, and is the
//! matter of `status`. What would keep people from repairing or removing what is wrong already (deletes, objects that are being
//! deleted, changes that leave `spec` as it was, status) passes unseen. The second is [`inject`](crate::inject), as `outrigger inject` is.

mod bundle;
mod judge;
mod mutate;
mod patch;
mod review;
mod server;
mod text;

#[cfg(test)]
mod tests;

pub use bundle::WebhookBundle;
pub use judge::{Finding, Verdict, judge};
pub use mutate::Injector;
pub use review::{BadReview, answer};
pub use server::{MUTATE, PATH, Reviewers, serve};
