//! One bad resource must not hold up the others: finds what of a batch can be taken.
//!
//! Pure over the question "does this set compile?", so it is tested without a compiler. A batch without a fault
//! costs one compilation; with faults that say where they are, one for each resource at fault and one more; only where
//! nothing says whose fault it is, one for each resource.

use std::collections::BTreeSet;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<T, F> {
    /// What came of those that were taken; `None`: nothing compiles, not even without the batch.
    pub result: Option<T>,
    /// Those that were not, with the faults.
    pub refused: Vec<(String, Vec<F>)>,
}

/// Tries the batch; `compile` is given the keys whose *new* version takes part. `blame` says which keys of the batch
/// a fault may be of.
pub fn isolate<T, F: Clone>(
    batch: &BTreeSet<String>,
    mut compile: impl FnMut(&BTreeSet<String>) -> Result<T, Vec<F>>,
    blame: impl Fn(&F) -> Vec<String>,
) -> Outcome<T, F> {
    let mut taken = batch.clone();
    let mut refused: Vec<(String, Vec<F>)> = Vec::new();
    loop {
        let faults = match compile(&taken) {
            Ok(result) => return Outcome { result: Some(result), refused },
            Err(faults) => faults,
        };
        let mut blamed: Vec<(String, Vec<F>)> = Vec::new();
        for fault in &faults {
            for key in blame(fault).into_iter().filter(|k| taken.contains(k)) {
                match blamed.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, all)) => all.push(fault.clone()),
                    None => blamed.push((key, vec![fault.clone()])),
                }
            }
        }
        if blamed.is_empty() {
            return one_by_one(&taken, faults, compile, refused);
        }
        for (key, _) in &blamed {
            taken.remove(key);
        }
        refused.append(&mut blamed);
    }
}

fn one_by_one<T, F>(
    batch: &BTreeSet<String>,
    faults: Vec<F>,
    mut compile: impl FnMut(&BTreeSet<String>) -> Result<T, Vec<F>>,
    mut refused: Vec<(String, Vec<F>)>,
) -> Outcome<T, F> {
    let mut taken = BTreeSet::new();
    let mut result = None;
    if batch.is_empty() {
        drop(faults);
        return Outcome { result, refused };
    }
    for key in batch {
        taken.insert(key.clone());
        match compile(&taken) {
            Ok(compiled) => result = Some(compiled),
            Err(faults) => {
                taken.remove(key);
                refused.push((key.clone(), faults));
            }
        }
    }
    if result.is_none() {
        result = compile(&taken).ok();
    }
    Outcome { result, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|k| (*k).to_owned()).collect()
    }

    /// Compiles unless one of `bad` takes part.
    fn run(batch: &[&str], bad: &[&str], located: bool) -> (Outcome<BTreeSet<String>, String>, usize) {
        let mut runs = 0;
        let compile = |taken: &BTreeSet<String>| {
            runs += 1;
            let faults: Vec<_> = bad.iter().filter(|b| taken.contains(**b)).map(|b| (*b).to_owned()).collect();
            if faults.is_empty() { Ok(taken.clone()) } else { Err(faults) }
        };
        let outcome = isolate(&set(batch), compile, |f| if located { vec![f.clone()] } else { Vec::new() });
        (outcome, runs)
    }

    #[test]
    fn a_good_batch_is_one_compilation() {
        let (outcome, runs) = run(&["a", "b"], &[], true);
        assert_eq!((outcome.result, runs), (Some(set(&["a", "b"])), 1));
    }

    #[test]
    fn a_located_fault_costs_one_more() {
        let (outcome, runs) = run(&["a", "b", "c"], &["b"], true);
        assert_eq!(outcome.result, Some(set(&["a", "c"])));
        assert_eq!(outcome.refused, [("b".to_owned(), vec!["b".to_owned()])]);
        assert_eq!(runs, 2);
    }

    #[test]
    fn a_fault_of_nobody_is_found_one_by_one() {
        let (outcome, _) = run(&["a", "b", "c"], &["b"], false);
        assert_eq!(outcome.result, Some(set(&["a", "c"])));
        assert_eq!(outcome.refused.len(), 1);
        let (outcome, _) = run(&["b"], &["b"], false);
        assert_eq!(outcome.result, Some(set(&[])));
    }

    #[test]
    fn what_never_compiles_gives_nothing() {
        let never = |_: &BTreeSet<String>| Err::<(), _>(vec!["x"]);
        let outcome = isolate(&set(&["a"]), never, |_| Vec::new());
        assert_eq!(outcome.result, None);
    }
}
