//! `identity` of a `Proxy`: three files, or the socket of a Workload API; never both, never a part of either.

use std::path::PathBuf;

use crate::{
    compile::Context,
    documents::{IdentitySpec, Spanned},
    load::Loaded,
    model::{IdentityFiles, IdentitySource, WorkloadApi},
};

/// The environment variable that the SPIFFE Workload Endpoint standard has for the socket (section 4).
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

impl Context<'_> {
    /// The source; `None` if it is faulty, which has been told then.
    pub(super) fn identity(&mut self, at: &Loaded, spec: &Spanned<IdentitySpec>) -> Option<IdentitySource> {
        if spec.is_stand_in() {
            return None;
        }
        let files = [&spec.certificate, &spec.private_key, &spec.trust_bundle];
        if let Some(api) = &spec.workload_api {
            if let Some(file) = files.into_iter().flatten().next() {
                self.fault(
                    at,
                    file.mark,
                    "`workloadApi` delivers certificate, key and bundle: no file stands beside it",
                );
            }
            return self.workload_api(at, api, spec.hint.as_ref());
        }
        if let Some(hint) = &spec.hint {
            self.fault(at, hint.mark, "`hint` belongs to `workloadApi`");
        }
        if let (Some(certificate), Some(private_key), Some(trust_bundle)) =
            (&spec.certificate, &spec.private_key, &spec.trust_bundle)
        {
            let path = |s: &Spanned<String>| PathBuf::from(s.as_str());
            return Some(IdentitySource::Files(IdentityFiles {
                certificate: path(certificate),
                private_key: path(private_key),
                trust_bundle: path(trust_bundle),
            }));
        }
        let names = ["certificate", "privateKey", "trustBundle"];
        for (name, _) in names.into_iter().zip(files).filter(|(_, file)| file.is_none()) {
            let message = format!("missing field `{name}`: an identity is three files, or `workloadApi`");
            self.missing(at, spec.mark, &[name, "workloadApi"], message);
        }
        None
    }

    fn workload_api(
        &mut self,
        at: &Loaded,
        api: &Spanned<String>,
        hint: Option<&Spanned<String>>,
    ) -> Option<IdentitySource> {
        let hint = hint.map(|h| h.as_str().into());
        if api.as_str() == VARIABLE {
            return Some(IdentitySource::WorkloadApi(WorkloadApi { socket: None, hint }));
        }
        let path = api.as_str().strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path));
        let Some(path) = path.filter(|path| path.starts_with('/') && path.len() > 1) else {
            let message = format!(
                "`{}` is no socket of a Workload API: it is written `unix:///run/spire/sockets/agent.sock`, or {VARIABLE}",
                api.as_str()
            );
            self.fault(at, api.mark, message);
            return None;
        };
        Some(IdentitySource::WorkloadApi(WorkloadApi { socket: Some(path.into()), hint }))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Source, compile,
        model::{IdentitySource, WorkloadApi},
    };

    fn identity(text: &str) -> Result<Option<IdentitySource>, Vec<String>> {
        let yaml = format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: Proxy\nmetadata: {{ name: p }}\nspec:\n  identity: {text}\n  \
             listeners: [{{ name: l, address: \"127.0.0.1:0\", direction: outbound }}]\n"
        );
        let compiled = compile(&[Source { name: "p.yaml".into(), text: yaml }]);
        let faults = |faults: Vec<crate::Fault>| faults.iter().map(ToString::to_string).collect();
        compiled.map(|c| c.model.proxy.identity).map_err(faults)
    }

    #[test]
    fn a_socket_is_a_source_of_its_own() {
        for (text, socket, hint) in [
            ("{ workloadApi: \"unix:///run/a.sock\" }", Some("/run/a.sock"), None),
            ("{ workloadApi: \"unix:/run/a.sock\", hint: internal }", Some("/run/a.sock"), Some("internal")),
            ("{ workloadApi: SPIFFE_ENDPOINT_SOCKET }", None, None),
        ] {
            let expected = WorkloadApi { socket: socket.map(Into::into), hint: hint.map(Into::into) };
            assert_eq!(identity(text), Ok(Some(IdentitySource::WorkloadApi(expected))), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_source_or_two_of_them_are_faults() {
        for (text, words) in [
            ("{ certificate: a, privateKey: b }", "p.yaml:5:13: missing field `trustBundle`"),
            ("{}", "missing field `certificate`"),
            ("{ workloadApi: \"tcp://127.0.0.1:1\" }", "is no socket of a Workload API"),
            ("{ workloadApi: \"unix:relative\" }", "is no socket of a Workload API"),
            ("{ workloadApi: \"unix:///a\", certificate: b }", "no file stands beside it"),
            ("{ certificate: a, privateKey: b, trustBundle: c, hint: d }", "`hint` belongs to `workloadApi`"),
        ] {
            let faults = identity(text).unwrap_err();
            assert!(faults.iter().any(|f| f.contains(words)), "{text}: {faults:?}");
        }
    }
}
