mod histories;
mod hostile;
mod peer;
mod rfc;
mod table;

use super::*;

/// A field as the tests compare it.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

fn pair(name: &str, value: &str) -> Pair {
    (name.into(), value.into())
}

/// Every field of a block.
fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, DecodeError> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut |field| {
        let (class, name_valid) = validity::classify(field.name);
        assert_eq!(field.class, class, "{field:?}");
        assert_eq!(field.valid, name_valid && allowed(field.value), "{field:?}");
        fields.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    Ok(fields)
}

/// What `validity::is_value` says, byte by byte.
fn allowed(value: &[u8]) -> bool {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_value_is_checked_wherever_the_fault_is() {
    for len in 0..40 {
        for at in 0..len {
            for byte in 0..=u8::MAX {
                let mut value = vec![b'a'; len];
                value[at] = byte;
                assert_eq!(validity::is_value(&value), allowed(&value), "{value:?}");
            }
        }
    }
    // A borrow between the bytes of a word hides nothing and finds nothing.
    let rng = &mut fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let value: Vec<u8> =
            (0..rng.usize(1..20)).map(|_| rng.choice(b"\x00\x1f\x20\x21\x7f\x80\xff\t").unwrap()).copied().collect();
        assert_eq!(validity::is_value(&value), allowed(&value), "{value:?}");
    }
}

#[test]
fn names_are_classified_only_if_they_are_lower_case_tokens() {
    let regular = |known| Class::Regular(known);
    for (name, class, valid) in [
        (&b":path"[..], Class::Pseudo(Pseudo::Path), true),
        (b":authority", Class::Pseudo(Pseudo::Authority), true),
        (b":method", Class::Pseudo(Pseudo::Method), true),
        (b":scheme", Class::Pseudo(Pseudo::Scheme), true),
        (b":status", Class::Pseudo(Pseudo::Status), true),
        (b":protocol", Class::Pseudo(Pseudo::Protocol), true),
        (b":Path", Class::UnknownPseudo, false),
        (b":odd", Class::UnknownPseudo, true),
        (b":", Class::UnknownPseudo, false),
        (b"", regular(Known::Other), false),
        (b"cookie", regular(Known::Cookie), true),
        (b"Cookie", regular(Known::Other), false),
        // Setting 0x20 in each byte would make it `content-length`.
        (b"content\rlength", regular(Known::Other), false),
        (b"a b", regular(Known::Other), false),
        (b"a:b", regular(Known::Other), false),
        (b"!#$%&'*+-.^_`|~09az", regular(Known::Other), true),
    ] {
        assert_eq!(validity::classify(name), (class, valid), "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn names_are_found_in_the_static_table() {
    for index in 1..=61 {
        let field = static_table::get(index).unwrap();
        assert_eq!(validity::classify(field.name), (field.class, true));
        let first = (1..=index).find(|i| static_table::get(*i).unwrap().name == field.name).unwrap();
        match field.class {
            Class::Regular(Known::Other) => assert_eq!(u32::from(static_table::index_of_other(field.name)), first),
            Class::Regular(known) => assert_eq!(u32::from(static_table::index_of_known(known)), first),
            class => assert!(matches!(class, Class::Pseudo(_))),
        }
    }
    assert!(static_table::get(0).is_none() && static_table::get(62).is_none());
    for name in ["", "x", "xy", "etaq", "varx", "age ", "x-other", "rangf", "lino"] {
        assert_eq!(static_table::index_of_other(name.as_bytes()), 0, "{name}");
    }
    assert_eq!(static_table::index_of_known(Known::Other), 0);
    assert_eq!(static_table::index_of_known(Known::Traceparent), 0);
}

#[test]
fn a_field_of_the_table_is_appended_as_a_line() {
    let mut decoder = Decoder::new(4096);
    let mut headers = Headers::new();
    let block = bytes("5a04677a6970 be 0f0d0131 84 be");
    decoder.decode(&block, &mut |field| field.append_to(&mut headers)).unwrap();
    let fields: Vec<_> = headers.iter().collect();
    let coding: (Known, &[u8], &[u8]) = (Known::Other, b"content-encoding", b"gzip");
    assert_eq!(fields, [coding, coding, (Known::ContentLength, b"content-length", b"1"), coding]);
    let mut text = Vec::new();
    headers.write_lines(crate::http::headers::KnownSet::default(), &mut text);
    let line = "content-encoding: gzip\r\n";
    assert_eq!(text, format!("{line}{line}content-length: 1\r\n{line}").as_bytes());
}

#[test]
fn an_idle_connection_holds_little() {
    let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new());
    assert!(size_of::<Decoder>() <= 128 && size_of::<Encoder>() <= 144);
    let mut out = Vec::new();
    for i in 0..10 {
        encoder.field(Known::Other, format!("x-name-{i}").as_bytes(), b"value", &mut out);
    }
    read(&mut decoder, &out).unwrap();
    assert_eq!(decoder.allocated(), (512, 16, 0));
    for i in 0..10_000 {
        out.clear();
        encoder.field(Known::Other, format!("x-{i}").as_bytes(), b"", &mut out);
        read(&mut decoder, &out).unwrap();
    }
    assert_eq!(decoder.allocated(), (8192, 128, 0));
    // A long string leaves nothing behind.
    let text = vec![b'a'; 60_000];
    let coded = huffman::reverse::encode(&text);
    out.clear();
    integer::encode(0, 4, 2, &mut out);
    integer::encode(0x80, 7, coded.len(), &mut out);
    out.extend_from_slice(&coded);
    assert_eq!(read(&mut decoder, &out).unwrap(), [(b":method".to_vec(), text)]);
    assert_eq!(decoder.allocated().2, 0);
}
