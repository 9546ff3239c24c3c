//! B3: `b3: TRACE-SPAN[-SAMPLED[-PARENT]]` or `b3: SAMPLED`, and the older `x-b3-*` headers.
//!
//! Ids of 64 and 128 bits, in either case; written in lower case and in the length that came in. A 64-bit
//! trace id is the lower half of the 128 bits of `traceparent`.

use super::{Form, SpanId, TraceContext, TraceId, hex};
use crate::http::{Headers, Known};

/// What one form of B3 says.
#[derive(Debug, Clone, Copy)]
pub(super) struct B3 {
    /// `None`: it only decides on sampling.
    pub(super) ids: Option<Ids>,
    pub(super) sampling: Sampling,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    /// The trace id has 64 bits.
    pub(super) short: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    Accept,
    Deny,
    Debug,
    /// Left to the receiver.
    Deferred,
}

impl Sampling {
    pub(super) fn is_sampled(self) -> bool {
        matches!(self, Self::Accept | Self::Debug)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"1" | b"true" => Some(Self::Accept),
            b"0" | b"false" => Some(Self::Deny),
            b"d" => Some(Self::Debug),
            _ => None,
        }
    }
}

/// The valid `b3` header.
pub(super) fn single(headers: &Headers) -> Option<B3> {
    let value = headers.get_known(Known::B3)?;
    if let Some(sampling) = Sampling::parse(value) {
        return Some(B3 { ids: None, sampling });
    }
    let mut parts = value.split(|b| *b == b'-');
    let ids = ids(parts.next()?, parts.next()?)?;
    let sampling = match parts.next() {
        None => Sampling::Deferred,
        Some(value) => Sampling::parse(value)?,
    };
    // The parent is checked and dropped: ours is the span that came in.
    if let Some(parent) = parts.next() {
        hex::id::<8>(parent, true)?;
    }
    parts.next().is_none().then_some(B3 { ids: Some(ids), sampling })
}

/// The valid `x-b3-*` headers.
pub(super) fn multi(headers: &Headers) -> Option<B3> {
    let sampling = if headers.get_known(Known::XB3Flags) == Some(b"1") {
        Some(Sampling::Debug)
    } else {
        headers.get_known(Known::XB3Sampled).and_then(Sampling::parse)
    };
    let trace_id = headers.get_known(Known::XB3TraceId);
    let ids = trace_id.and_then(|trace_id| ids(trace_id, headers.get_known(Known::XB3SpanId)?));
    if ids.is_none() && sampling.is_none() {
        return None;
    }
    Some(B3 { ids, sampling: sampling.unwrap_or(Sampling::Deferred) })
}

fn ids(trace_id: &[u8], span_id: &[u8]) -> Option<Ids> {
    let short = trace_id.len() == 16;
    let trace_id = if short {
        let mut wide = [0; 16];
        wide[8..].copy_from_slice(&hex::id::<8>(trace_id, true)?);
        wide
    } else {
        hex::id(trace_id, true)?
    };
    Some(Ids { trace_id: TraceId(trace_id), span_id: SpanId(hex::id(span_id, true)?), short })
}

/// Writes the forms that came in, unless they say so already: then their parent stays, too.
pub(super) fn inject(context: &TraceContext, headers: &mut Headers) {
    let same = |b3: B3| {
        b3.sampling == sampling(context)
            && b3.ids.is_some_and(|ids| (ids.trace_id, ids.span_id) == (context.trace_id, context.span_id))
    };
    match context.forms.single {
        Form::Write if !single(headers).is_some_and(same) => inject_single(context, headers),
        Form::Absent | Form::Write => {}
        Form::Remove => {
            headers.remove_known(Known::B3);
        }
    }
    match context.forms.multi {
        Form::Write if !multi(headers).is_some_and(same) => inject_multi(context, headers),
        Form::Absent | Form::Write => {}
        Form::Remove => {
            for name in
                [Known::XB3TraceId, Known::XB3SpanId, Known::XB3ParentSpanId, Known::XB3Sampled, Known::XB3Flags]
            {
                headers.remove_known(name);
            }
        }
    }
}

fn inject_single(context: &TraceContext, headers: &mut Headers) {
    // The longest form: 32 + 1 + 16 + 1 + 1 + 1 + 16.
    let mut buffer = [0_u8; 68];
    let mut len = 0;
    let mut push = |bytes: &[u8]| {
        buffer[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    let trace_id = hex::encode::<16, 32>(context.trace_id.0);
    push(shown(&trace_id, context));
    push(b"-");
    push(&hex::encode::<8, 16>(context.span_id.0));
    let sampled: &[u8] = match sampling(context) {
        Sampling::Accept => b"1",
        Sampling::Deny => b"0",
        Sampling::Debug => b"d",
        Sampling::Deferred => b"",
    };
    if !sampled.is_empty() {
        push(b"-");
        push(sampled);
        if let Some(parent) = context.parent {
            push(b"-");
            push(&hex::encode::<8, 16>(parent.0));
        }
    }
    headers.set_known(Known::B3, &buffer[..len]);
}

fn inject_multi(context: &TraceContext, headers: &mut Headers) {
    let trace_id = hex::encode::<16, 32>(context.trace_id.0);
    headers.set_known(Known::XB3TraceId, shown(&trace_id, context));
    headers.set_known(Known::XB3SpanId, &hex::encode::<8, 16>(context.span_id.0));
    match context.parent {
        Some(parent) => headers.set_known(Known::XB3ParentSpanId, &hex::encode::<8, 16>(parent.0)),
        None => {
            headers.remove_known(Known::XB3ParentSpanId);
        }
    }
    headers.remove_known(Known::XB3Flags);
    match sampling(context) {
        Sampling::Accept => headers.set_known(Known::XB3Sampled, b"1"),
        Sampling::Deny => headers.set_known(Known::XB3Sampled, b"0"),
        // Debug implies sampled and has a header of its own.
        Sampling::Debug => {
            headers.remove_known(Known::XB3Sampled);
            headers.set_known(Known::XB3Flags, b"1");
        }
        Sampling::Deferred => {
            headers.remove_known(Known::XB3Sampled);
        }
    }
}

fn shown<'a>(trace_id: &'a [u8; 32], context: &TraceContext) -> &'a [u8] {
    if context.forms.short { &trace_id[16..] } else { trace_id }
}

fn sampling(context: &TraceContext) -> Sampling {
    if context.debug {
        Sampling::Debug
    } else if context.deferred {
        Sampling::Deferred
    } else if context.is_sampled() {
        Sampling::Accept
    } else {
        Sampling::Deny
    }
}
