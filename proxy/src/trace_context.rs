//! Trace context: W3C `traceparent` and `tracestate` joined or started, B3 understood. `baggage` is not
//! looked at and passes as it is.
//!
//! What came in decides what goes out. A valid `traceparent` is preferred; without one the B3 headers
//! (single, then multiple) are taken. `traceparent` is always written, with every B3 form that came in
//! beside it, all from the one context that was taken, so that no two of them name different traces.
//!
//! `tracestate` is judged only beside a valid `traceparent` (W3C Trace Context 3.2.1) and dropped whole
//! if it does not parse or has more than 32 members. A valid one is at most 32 members of 513 bytes, so
//! nothing is ever cut out of it; we add no member of our own, and leave order and duplicates alone.
//!
//! A context is a few dozen bytes on the stack; only joining several `tracestate` fields allocates.

use std::fmt;

use crate::http::{Headers, Known, headers::KnownSet};

mod b3;
pub(crate) mod hex;
mod tracestate;
mod w3c;

#[cfg(test)]
mod tests;

use tracestate::State;

/// Identifier of a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Identifier of a span; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// The place of a request in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the whole trace.
    pub trace_id: TraceId,
    /// Of the span that the receiver gets as its parent.
    pub span_id: SpanId,
    /// The span that came in, once [`TraceContext::child`] has put another in its place.
    pub parent: Option<SpanId>,
    /// [`SAMPLED`] and [`RANDOM`]; no other bit is ever set.
    pub flags: u8,
    /// B3 debug: sampled, and nobody may change that.
    debug: bool,
    /// B3 that leaves the decision on sampling to whoever wants to take it.
    deferred: bool,
    /// What came in, to be written again.
    forms: Forms,
    state: State,
}

/// Spans of the trace are recorded.
pub const SAMPLED: u8 = 0x01;
/// The trace id is random in at least its last 7 bytes.
pub const RANDOM: u8 = 0x02;

/// What is to be done with the two forms of B3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forms {
    single: Form,
    multi: Form,
    /// The trace id had 64 bits, and is written so again.
    short: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It did not come in.
    Absent,
    /// It came in and is not valid.
    Remove,
    /// It came in and is written anew.
    Write,
}

impl Forms {
    const NONE: Self = Self { single: Form::Absent, multi: Form::Absent, short: false };
}

impl Form {
    fn new(present: bool, parsed: Option<&b3::B3>) -> Self {
        match (present, parsed) {
            (false, _) => Self::Absent,
            (true, None) => Self::Remove,
            (true, Some(_)) => Self::Write,
        }
    }
}

/// The fields that are looked at.
const OURS: KnownSet = KnownSet::of(&[
    Known::Traceparent,
    Known::Tracestate,
    Known::B3,
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::XB3Sampled,
    Known::XB3Flags,
]);

/// Which of our fields a request has, found in one pass: most have none or one.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    traceparent: bool,
    tracestate: bool,
    single: bool,
    multi: bool,
}

impl Seen {
    fn of(headers: &Headers) -> Self {
        let mut seen = Self::default();
        for (known, _, _) in headers.iter() {
            match known {
                Known::Traceparent => seen.traceparent = true,
                Known::Tracestate => seen.tracestate = true,
                Known::B3 => seen.single = true,
                Known::XB3TraceId | Known::XB3SpanId | Known::XB3ParentSpanId | Known::XB3Sampled | Known::XB3Flags => {
                    seen.multi = true
                }
                _ => {}
            }
        }
        seen
    }
}

/// Where a context came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The request brought it.
    Joined,
    /// The request brought none that is valid.
    Started,
}

impl TraceContext {
    /// The valid context that the request brought, if any.
    #[must_use]
    pub fn from_headers(headers: &Headers) -> Option<Self> {
        Self::read(headers).ok()
    }

    /// The root of a new trace, which takes the place of whatever the request brought.
    #[must_use]
    pub fn start(rng: &mut fastrand::Rng, sampled: bool) -> Self {
        Self {
            trace_id: TraceId(nonzero(|| rng.u128(..).to_be_bytes())),
            span_id: SpanId(nonzero(|| rng.u64(..).to_be_bytes())),
            parent: None,
            flags: RANDOM | if sampled { SAMPLED } else { 0 },
            debug: false,
            deferred: false,
            forms: Forms { single: Form::Remove, multi: Form::Remove, short: false },
            state: State::Drop,
        }
    }

    /// The context of the request, else a new one. `sample` is asked only where nobody has decided.
    ///
    /// B3 without ids (`b3: 0`) decides on sampling alone, and its form is kept.
    #[must_use]
    pub fn join_or_start(
        headers: &Headers,
        rng: &mut fastrand::Rng,
        sample: impl FnOnce(&mut fastrand::Rng) -> bool,
    ) -> (Self, Origin) {
        match Self::read(headers) {
            Ok(mut context) => {
                if context.deferred {
                    context.deferred = false;
                    context.flags |= if sample(rng) { SAMPLED } else { 0 };
                }
                (context, Origin::Joined)
            }
            Err(rest) => {
                let sampled = rest.sampling.map_or_else(|| sample(rng), b3::Sampling::is_sampled);
                let mut context = Self::start(rng, sampled);
                context.debug = rest.sampling == Some(b3::Sampling::Debug);
                context.forms = rest.forms;
                context.state = if rest.tracestate { State::Drop } else { State::Keep };
                (context, Origin::Started)
            }
        }
    }

    fn read(headers: &Headers) -> Result<Self, Rest> {
        if !headers.names().meets(OURS) {
            return Err(Rest { forms: Forms::NONE, sampling: None, tracestate: false });
        }
        let seen = Seen::of(headers);
        let single = if seen.single { b3::single(headers) } else { None };
        let multi = if seen.multi { b3::multi(headers) } else { None };
        let mut forms = Forms {
            single: Form::new(seen.single, single.as_ref()),
            multi: Form::new(seen.multi, multi.as_ref()),
            short: false,
        };
        let b3 = [single, multi].into_iter().flatten();
        if let Some((trace_id, span_id, flags)) = seen.traceparent.then(|| w3c::parse(headers)).flatten() {
            // The short form is kept only for the trace that it names.
            forms.short = b3.filter_map(|b3| b3.ids).any(|ids| ids.short && ids.trace_id == trace_id);
            let state = if seen.tracestate { State::of(headers) } else { State::Keep };
            return Ok(Self { trace_id, span_id, parent: None, flags, debug: false, deferred: false, forms, state });
        }
        let Some((b3, ids)) = b3.clone().find_map(|b3| Some((b3, b3.ids?))) else {
            let sampling = b3.map(|b3| b3.sampling).find(|sampling| *sampling != b3::Sampling::Deferred);
            return Err(Rest { forms, sampling, tracestate: seen.tracestate });
        };
        forms.short = ids.short;
        Ok(Self {
            trace_id: ids.trace_id,
            span_id: ids.span_id,
            parent: None,
            flags: if b3.sampling.is_sampled() { SAMPLED } else { 0 },
            debug: b3.sampling == b3::Sampling::Debug,
            deferred: b3.sampling == b3::Sampling::Deferred,
            forms,
            state: if seen.tracestate { State::Drop } else { State::Keep },
        })
    }

    /// The same trace with a span of our own as the parent of what follows.
    ///
    /// Only for a proxy that records that span: otherwise the trace would have a hole.
    #[must_use]
    pub fn child(mut self, rng: &mut fastrand::Rng) -> Self {
        self.parent = Some(self.span_id);
        self.span_id = SpanId(nonzero(|| rng.u64(..).to_be_bytes()));
        self
    }

    /// True if spans of the trace are recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Writes the context over the one in `headers`, which must be those that it was read from, or a copy.
    pub fn inject(&self, headers: &mut Headers) {
        headers.set_known(Known::Traceparent, &w3c::format(self));
        self.state.inject(headers);
        b3::inject(self, headers);
    }
}

/// What a request without a valid context has all the same.
struct Rest {
    forms: Forms,
    sampling: Option<b3::Sampling>,
    tracestate: bool,
}

/// Asks again for the one value in 2^64 that is not an id; bounded, so that no generator can hold us.
fn nonzero<const N: usize>(mut random: impl FnMut() -> [u8; N]) -> [u8; N] {
    for _ in 0..4 {
        let id = random();
        if id != [0; N] {
            return id;
        }
    }
    [1; N]
}

impl TraceId {
    /// In hexadecimal, ASCII.
    #[must_use]
    pub fn hex(&self) -> [u8; 32] {
        hex::encode::<16, 32>(self.0)
    }
}

impl SpanId {
    /// In hexadecimal, ASCII.
    #[must_use]
    pub fn hex(&self) -> [u8; 16] {
        hex::encode::<8, 16>(self.0)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(hex::text(&hex::encode::<16, 32>(self.0)))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(hex::text(&hex::encode::<8, 16>(self.0)))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
