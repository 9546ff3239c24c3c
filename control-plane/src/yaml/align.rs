//! Which items of two lists are the same: equal, or of one name, or in want of better of one kind, in order.

use serde_json::Value;

/// Cells of the table; lists beyond that are compared from both ends only.
const MAX_CELLS: usize = 250_000;

/// For each item of `after` the one of `before` that it was, ascending.
pub(super) fn align(before: &[Value], after: &[Value]) -> Vec<Option<usize>> {
    let same = |(a, b): &(&Value, &Value)| a == b;
    let head = before.iter().zip(after).take_while(same).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut pairs: Vec<Option<usize>> = (0..head).map(Some).collect();
    pairs.extend(middle(old, new).into_iter().map(|pair| pair.map(|at| head + at)));
    pairs.extend((before.len() - tail..before.len()).map(Some));
    pairs
}

/// The pairs of most weight in all.
fn middle(old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; new.len()];
    let width = new.len() + 1;
    if old.is_empty() || new.is_empty() || (old.len() + 1).saturating_mul(width) > MAX_CELLS {
        return pairs;
    }
    let weights: Vec<u32> = old.iter().flat_map(|a| new.iter().map(move |b| weight(a, b))).collect();
    let mut best = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let weight = weights[i * new.len() + j];
            let paired = if weight > 0 { weight + best[(i + 1) * width + j + 1] } else { 0 };
            best[i * width + j] = paired.max(best[(i + 1) * width + j]).max(best[i * width + j + 1]);
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        let (here, weight) = (best[i * width + j], weights[i * new.len() + j]);
        if weight > 0 && here == weight + best[(i + 1) * width + j + 1] {
            pairs[j] = Some(i);
            (i, j) = (i + 1, j + 1);
        } else if here == best[(i + 1) * width + j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

fn weight(a: &Value, b: &Value) -> u32 {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    match (a, b) {
        _ if a == b => 64,
        (Value::Object(_), Value::Object(_)) => match (name(a), name(b)) {
            (Some(a), Some(b)) if a == b => 16,
            (Some(_), Some(_)) => 0,
            _ => 1,
        },
        (Value::Array(_), Value::Array(_)) => 1,
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => 0,
        _ => 1,
    }
}
