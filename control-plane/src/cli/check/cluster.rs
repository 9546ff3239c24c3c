//! The API server: does it answer, is it new enough, do the clocks agree, and may we install?

use std::time::Duration;

use http::header;
use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    apimachinery::pkg::version::Info,
};
use kube::{Api, api::PostParams};
use tokio::time::timeout;

use super::{super::cluster::chain, Context, Line};

/// Oldest release that runs native sidecars without a feature gate.
const OLDEST: (u32, u32) = (1, 29);
/// Clocks that differ by more: certificates are backdated by five minutes, and tokens are checked to the second.
const SKEW_WARNING: u64 = 30;
/// Clocks that differ by more make certificates that are not valid yet.
const SKEW_FAULT: u64 = 5 * 60;
/// For one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines, and whether it can be asked anything else.
pub(super) async fn api_server(context: &Context) -> (Vec<Line>, bool) {
    let fault = |why: String| {
        let remedy = "is the cluster up, and is this the right kubeconfig? `kubectl version` must work";
        (vec![Line::fault("api-server", format!("the API server does not answer: {why}"), remedy)], false)
    };
    let request = match http::Request::get("/version").body(kube::client::Body::empty()) {
        Ok(request) => request,
        Err(e) => return fault(e.to_string()),
    };
    let asked = async {
        let response = context.client.send(request).await?;
        let date = response.headers().get(header::DATE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok::<_, kube::Error>((date, context.client.apiserver_version().await?))
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok((date, info))) => {
            let mut lines =
                vec![Line::ok("api-server", format!("the API server answers ({})", info.git_version)), version(&info)];
            lines.extend(date.and_then(|date| clock(&date, context.now)));
            (lines, true)
        }
        Ok(Err(e)) => fault(chain(&e)),
        Err(_) => fault(format!("nothing within {} s", PATIENCE.as_secs())),
    }
}

fn version(info: &Info) -> Line {
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let version = (number(&info.major), number(&info.minor));
    let (major, minor) = OLDEST;
    if version < OLDEST {
        let message = format!("Kubernetes {}.{} has no native sidecars", version.0, version.1);
        return Line::fault("version", message, format!("upgrade to {major}.{minor} or later"));
    }
    Line::ok("version", format!("Kubernetes {}.{} runs native sidecars", version.0, version.1))
}

/// RFC 9110 5.6.7; `None`: the server says no time.
fn clock(date: &str, now: u64) -> Option<Line> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let skew = i64::try_from(now).ok()?.abs_diff(theirs);
    let message = format!("this machine's clock and the API server's differ by {skew} s");
    let remedy = "synchronise the clocks (NTP): certificates and tokens are valid for a time";
    Some(match skew {
        0..=SKEW_WARNING => Line::ok("clock", "this machine's clock and the API server's agree"),
        s if s <= SKEW_FAULT => Line::warning("clock", message, remedy),
        _ => Line::fault("clock", message, remedy),
    })
}

/// What an installation creates: group, resource, whether it is in the mesh's namespace.
const NEEDED: [(&str, &str, bool); 11] = [
    ("", "namespaces", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "secrets", true),
    ("apps", "deployments", true),
];

pub(super) async fn permissions(context: &Context) -> Vec<Line> {
    let asked = NEEDED.iter().map(|&(group, resource, namespaced)| async move {
        (resource, may_create(context, group, resource, namespaced).await)
    });
    let answers = futures::future::join_all(asked).await;
    let mut forbidden = Vec::new();
    for (resource, answer) in answers {
        match answer {
            Ok(true) => {}
            Ok(false) => forbidden.push(resource),
            Err(error) => return vec![Line::failed("permissions", "what you may do", &error)],
        }
    }
    if forbidden.is_empty() {
        return vec![Line::ok("permissions", "you may create all that an installation consists of")];
    }
    let message = format!("you may not create {}", forbidden.join(", "));
    vec![Line::fault("permissions", message, "install with an account that may (cluster-admin)")]
}

async fn may_create(context: &Context, group: &str, resource: &str, namespaced: bool) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some("create".to_owned()),
        namespace: namespaced.then(|| context.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(context.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::{super::report::Outcome, *};

    #[test]
    fn versions_and_clocks_are_judged() {
        let info = |major: &str, minor: &str| Info { major: major.into(), minor: minor.into(), ..Info::default() };
        for (major, minor, result) in [
            ("1", "34", Outcome::Ok),
            ("1", "29+", Outcome::Ok),
            ("1", "28", Outcome::Fault),
            ("2", "0", Outcome::Ok),
            ("", "", Outcome::Fault),
        ] {
            assert_eq!(version(&info(major, minor)).result, result, "{major}.{minor}");
        }
        // 2026-11-23 02:30:00 UTC.
        let date = "Mon, 23 Nov 2026 02:30:00 GMT";
        let now = 1_795_401_000;
        for (skew, result) in [(0, Outcome::Ok), (60, Outcome::Warning), (301, Outcome::Fault)] {
            assert_eq!(clock(date, now + skew).unwrap().result, result, "{skew}");
            assert_eq!(clock(date, now - skew).unwrap().result, result, "-{skew}");
        }
        assert_eq!(clock("yesterday", now), None);
    }
}
