//! `traceparent` (W3C Trace Context 3.2): `00-TRACE-PARENT-FLAGS`.

use super::{RANDOM, SAMPLED, SpanId, TraceContext, TraceId, hex};
use crate::http::{Headers, Known};

/// Length of version 00, and of the part of later versions that is read.
const LENGTH: usize = 55;

/// The one valid `traceparent`: several of them, or any mistake, and the trace starts anew.
pub(super) fn parse(headers: &Headers) -> Option<(TraceId, SpanId, u8)> {
    let mut values = headers.all_known(Known::Traceparent);
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    parse_value(value)
}

fn parse_value(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (known, more) = value.split_at_checked(LENGTH)?;
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    // Version ff is forbidden, 00 has nothing behind the flags, a later one may add fields after a dash.
    match hex::decode::<1>(&known[..2], false)? {
        [0xff] => return None,
        [0] if !more.is_empty() => return None,
        _ if more.first().is_some_and(|b| *b != b'-') => return None,
        _ => {}
    }
    let trace_id = TraceId(hex::id(&known[3..35], false)?);
    let span_id = SpanId(hex::id(&known[36..52], false)?);
    let [flags] = hex::decode::<1>(&known[53..], false)?;
    Some((trace_id, span_id, flags & (SAMPLED | RANDOM)))
}

/// As version 00, whichever version came in.
pub(super) fn format(context: &TraceContext) -> [u8; LENGTH] {
    let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
    out[3..35].copy_from_slice(&hex::encode::<16, 32>(context.trace_id.0));
    out[36..52].copy_from_slice(&hex::encode::<8, 16>(context.span_id.0));
    out[53..].copy_from_slice(&hex::encode::<1, 2>([context.flags]));
    out
}
