//! `outrigger inject` and `outrigger uninject`: manifests in, manifests out, with the text that people wrote kept.
//!
//! What is injected and why not is decided by [`crate::inject`], as in the webhook; what is edited, by [`crate::yaml`]. Here manifests
//! are read (`source`), templates of pods found in them (`find`) and everything told (`report`).
//!
//! Nothing is printed to stdout unless all of the input could be read, so that `| kubectl apply -f -` never applies half of it.
//! Whoever runs `inject` asks for a proxy: a template gets one unless a label, its own or that of its namespace if that is among the
//! documents, says `disabled`. A template that cannot have one is printed as it was, told on stderr, and makes the exit code 1.

mod find;
mod report;
mod source;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use outrigger_config::identity::DEFAULT_TRUST_DOMAIN;
use serde_json::Value;

use self::{
    find::{Object, objects},
    report::{Report, Told},
    source::Source,
};
use super::{DONE, FOUND_FAULTS, Global, Usage, print};
use crate::{
    inject::{self, Context, Flags, Outcome, Settings},
    yaml::{self, Document, Stream},
};

#[derive(Debug, clap::Args)]
#[command(after_help = INJECT_EXAMPLES, mut_arg("native_sidecars", |arg| arg.help(NATIVE_SIDECARS)))]
pub(super) struct InjectArgs {
    #[command(flatten)]
    input: Input,
    /// Namespace of objects that do not say theirs
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Namespace of the control plane
    #[arg(long, env = "OUTRIGGER_NAMESPACE", default_value = "outrigger-system", value_name = "NAMESPACE")]
    mesh_namespace: String,
    /// Trust domain of all identities
    #[arg(long, env = "OUTRIGGER_TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN, value_name = "DOMAIN")]
    trust_domain: String,
    /// What names of Services end with
    #[arg(long, env = "OUTRIGGER_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    cluster_domain: String,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
#[command(after_help = UNINJECT_EXAMPLES)]
pub(super) struct UninjectArgs {
    #[command(flatten)]
    input: Input,
}

#[derive(Debug, clap::Args)]
struct Input {
    /// Files of YAML or JSON, directories of *.yaml, *.yml and *.json, or - for stdin [default: -]
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// The same, without -f
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How manifests are written: yaml keeps the text that is there (JSON stays JSON), json writes all anew
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, value_name = "FORMAT")]
    output: Format,
}

/// How manifests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// What becomes of a template.
enum Change {
    To(Box<Value>, Told),
    None(Told),
}

pub(super) fn run(args: &InjectArgs, global: Global) -> Result<u8> {
    let settings = args
        .flags
        .settings(&args.mesh_namespace, &args.trust_domain, &args.cluster_domain)
        .map_err(|e| Usage(e.to_string()))?;
    let sources = source::sources(&args.input.filename, &args.input.files)?;
    transform(&sources, args.input.output, global, |namespaces| {
        move |object: &Object<'_>, template: &Value| {
            let namespace = object.namespace().or(args.namespace.as_deref()).unwrap_or_default();
            let namespace_labels = namespaces.get(namespace).cloned().unwrap_or_default();
            let context = Context { namespace: namespace.to_owned(), namespace_labels, explicit: true };
            injected(template, &context, &settings)
        }
    })
}

pub(super) fn run_uninject(args: &UninjectArgs, global: Global) -> Result<u8> {
    let sources = source::sources(&args.input.filename, &args.input.files)?;
    transform(&sources, args.input.output, global, |_| {
        |_: &Object<'_>, template: &Value| match inject::uninject(template) {
            Some(bare) => Change::To(Box::new(bare), Told::changed("uninjected")),
            None => Change::None(Told::skipped("it has not been injected".to_owned())),
        }
    })
}

fn injected(template: &Value, context: &Context, settings: &Settings) -> Change {
    match inject::inject(template, context, settings) {
        Ok(Outcome::Injected(new)) if *new == *template => {
            Change::None(Told::skipped("it is injected already".to_owned()))
        }
        Ok(Outcome::Injected(new)) => {
            let advice = inject::advice(template, settings);
            Change::To(new, Told::changed("injected").with(advice))
        }
        Ok(Outcome::Skipped(why)) => Change::None(Told::skipped(why)),
        Err(refused) => Change::None(Told::refused(refused.reason.token(), refused.to_string())),
    }
}

/// Labels of the namespaces that are among the documents.
type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Reads all, changes the templates, prints the outcome and tells about it.
fn transform<F>(sources: &[Source], format: Format, global: Global, change: impl FnOnce(Namespaces) -> F) -> Result<u8>
where
    F: Fn(&Object<'_>, &Value) -> Change,
{
    let mut report = Report::new(global);
    let mut streams = Vec::with_capacity(sources.len());
    for source in sources {
        match yaml::read(&source.text) {
            Ok(stream) => streams.push((source, stream)),
            Err(fault) => report.fault(&source.name, &fault),
        }
    }
    if streams.len() < sources.len() {
        report.print();
        return Ok(FOUND_FAULTS);
    }
    let change = change(namespaces(&streams));
    let mut texts = Vec::with_capacity(streams.len());
    let mut values = Vec::new();
    for (source, stream) in &streams {
        let mut text = stream.mark.to_owned();
        for document in &stream.documents {
            let (after, anchor) = (changed(document, &source.name, &change, &mut report), document.line);
            if format == Format::Json {
                values.push(after);
                continue;
            }
            let edited = document.rewrite(&after);
            if let Some(why) = edited.anew {
                report.anew(&source.name, anchor, why);
            }
            text.push_str(&edited.text);
        }
        text.push_str(stream.rest);
        texts.push(text);
    }
    match format {
        Format::Yaml => print(&source::join(texts))?,
        Format::Json => print(&json(values))?,
    }
    report.print();
    Ok(if report.faults() > 0 { FOUND_FAULTS } else { DONE })
}

/// What a document says afterwards.
fn changed(
    document: &Document<'_>,
    file: &str,
    change: &impl Fn(&Object<'_>, &Value) -> Change,
    report: &mut Report,
) -> Value {
    let mut after = document.value.clone();
    for object in objects(&document.value) {
        let Some((pointer, template)) = object.template() else {
            report.tell(file, document.line, &object, &Told::passed());
            continue;
        };
        match change(&object, template) {
            Change::To(new, told) => {
                if let Some(slot) = after.pointer_mut(&pointer) {
                    *slot = *new;
                }
                report.tell(file, document.line, &object, &told);
            }
            Change::None(told) => report.tell(file, document.line, &object, &told),
        }
    }
    after
}

fn namespaces(streams: &[(&Source, Stream<'_>)]) -> Namespaces {
    let documents = streams.iter().flat_map(|(_, stream)| &stream.documents);
    let objects = documents.flat_map(|document| objects(&document.value));
    objects
        .filter(|object| object.kind() == "Namespace")
        .map(|object| (object.name().to_owned(), object.labels()))
        .collect()
}

/// One object as it is, several (and those of lists) as one `List`: what `kubectl -o json` prints and `kubectl apply` takes.
fn json(documents: Vec<Value>) -> String {
    let mut values = Vec::with_capacity(documents.len());
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    values.extend(items);
                }
            }
            value => values.push(value),
        }
    }
    let value = match values.len() {
        0 => return String::new(),
        1 => values.swap_remove(0),
        _ => serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": values }),
    };
    format!("{value:#}\n")
}

/// Of the flag that the control plane has, too: no API server is asked here.
const NATIVE_SIDECARS: &str =
    "Native sidecars: every node must run Kubernetes 1.29 or later; auto means true here, so write false before 1.29";

const INJECT_EXAMPLES: &str = "Examples:
  outrigger inject -f shop.yaml | kubectl apply -f -
  kubectl get deployment web -o yaml | outrigger inject - | kubectl apply -f -
  outrigger inject -f manifests/ > meshed.yaml
  helm template shop ./shop | outrigger inject | kubectl apply -f -

To inject is to opt in: a pod gets a proxy unless the label outrigger.dev/inject of its template, or of its Namespace if that is
among the documents, says disabled. Comments, order and style of the text stay; what has no template of a pod is passed through.
Annotations outrigger.dev/... of the template set everything per pod.

Exit codes: 0 done, 1 something could not be read (nothing is printed) or not be injected (it is printed as it was), 2 wrong usage.";

const UNINJECT_EXAMPLES: &str = "Examples:
  outrigger uninject -f meshed.yaml | kubectl apply -f -
  kubectl get deployment -o yaml | outrigger uninject | kubectl apply -f -

Only what `outrigger inject` or the webhook added is taken out; what they changed is as it was,
unless somebody changed it since: that stays.";
