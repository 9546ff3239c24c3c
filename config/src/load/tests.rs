//! Whatever stands at any place of a document, what the checker leaves of it decodes.

use super::*;

/// What is put in place of each node.
fn odd() -> Vec<Value> {
    let map = |key: &str, value| {
        let node = Node { mark: Mark::START, value };
        Value::Map(vec![yaml::Entry { key: key.to_owned(), mark: Mark::START, value: node }])
    };
    vec![
        Value::Null,
        Value::Bool(false),
        Value::Int(-1),
        Value::Int(i64::MAX),
        Value::Float(1.5),
        Value::Float(f64::NAN),
        Value::String(String::new()),
        Value::String("x y".to_owned()),
        Value::String("x".repeat(5_000)),
        Value::Seq(Vec::new()),
        Value::Seq(vec![Node { mark: Mark::START, value: Value::Int(7) }]),
        Value::Seq(vec![Node { mark: Mark::START, value: Value::Null }; 2_000]),
        Value::Map(Vec::new()),
        map("name", Value::Bool(true)),
    ]
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Seq(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|e| count(&e.value)).sum(),
        _ => 0,
    }
}

/// The node that is at `place` when all are counted, parents first.
fn nth<'n>(node: &'n mut Node, place: &mut usize) -> Option<&'n mut Node> {
    if *place == 0 {
        return Some(node);
    }
    *place -= 1;
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().find_map(|item| nth(item, place)),
        Value::Map(entries) => entries.iter_mut().find_map(|entry| nth(&mut entry.value, place)),
        _ => None,
    }
}

#[test]
fn what_the_checker_leaves_decodes() {
    let text = concat!(include_str!("../../tests/contract.yaml"), "---\n", include_str!("tests.yaml"));
    let parsed = yaml::parse(text);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let source = Source { name: "f".into(), text: String::new() };
    for document in parsed.documents {
        for place in 1..count(&document) {
            for value in odd() {
                let mut broken = document.clone();
                let node = nth(&mut broken, &mut place.clone()).expect("it was counted");
                let (mark, shown) = (node.mark, format!("{:?}", node.value));
                node.value = value.clone();
                let mut loads = Loads::default();
                loads.document(&source, broken);
                assert!(!loads.lost, "{mark:?}: {value:?} for {shown}: {:#?}", loads.faults);
                assert!(loads.faults.iter().all(|f| f.origin.line > 0));
            }
        }
    }
}
