//! The table against a list that does the same in the obvious way.

use std::collections::VecDeque;

use super::{
    super::table::{Name, NameText, Table},
    *,
};

#[test]
fn it_does_what_a_list_does() {
    for seed in 0..300 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let most = *rng.choice(&[0, 33, 64, 200, 1000, 4096]).unwrap();
        let mut table = Table::new(most, most);
        let mut list: VecDeque<Pair> = VecDeque::new();
        let mut max = most;
        for _ in 0..rng.usize(0..400) {
            if rng.u8(..) < 5 {
                max = rng.usize(0..=most);
                table.set_max(max);
            } else {
                insert(rng, &mut table, &mut list, most);
            }
            while count(&list) > max {
                list.pop_back();
            }
            check(&table, &list);
            assert!(table.allocated().0 <= 2 * most && table.allocated().1 <= (most / 32).next_power_of_two().max(16));
        }
    }
}

fn insert(rng: &mut fastrand::Rng, table: &mut Table, list: &mut VecDeque<Pair>, most: usize) {
    let longest = *rng.choice(&[3, 30, most / 3 + 1, most + 1]).unwrap();
    let value = random(rng, longest);
    let bytes = random(rng, longest);
    let back = rng.usize(0..list.len() + 1);
    let (name, text) = match table.entry(back as u32) {
        Some(entry) => (list[back].0.clone(), NameText::Entry(*entry)),
        None => (bytes.clone(), NameText::Bytes(&bytes)),
    };
    let valid = rng.bool();
    let inserted = table.insert(Name { text, class: Class::Regular(Known::Other), valid }, &value, true);
    assert_eq!(inserted, name.len() + value.len() + 32 <= table.max());
    list.push_front((name, value));
    if inserted {
        assert_eq!(table.field(table.entry(0).unwrap()).valid, valid);
    }
}

fn random(rng: &mut fastrand::Rng, longest: usize) -> Vec<u8> {
    (0..rng.usize(0..longest)).map(|_| rng.u8(..)).collect()
}

fn count(list: &VecDeque<Pair>) -> usize {
    list.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

fn check(table: &Table, list: &VecDeque<Pair>) {
    assert_eq!(table.size(), count(list));
    for (back, (name, value)) in list.iter().enumerate() {
        let field = table.field(table.entry(back as u32).unwrap());
        assert_eq!((field.name, field.value), (&name[..], &value[..]));
        assert_eq!(field.line, [&name[..], b": ", value, b"\r\n"].concat());
    }
    assert!(table.entry(list.len() as u32).is_none() && table.entry(u32::MAX).is_none());
}
