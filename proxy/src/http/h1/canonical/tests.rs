use super::*;

/// Name and value of a line.
type Line = (Vec<u8>, Vec<u8>);

fn read(text: &[u8]) -> Option<(Vec<Line>, usize)> {
    let mut kept = Headers::new();
    let (_, end) = fields(text, 0, 100, &mut kept)?;
    Some((kept.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect(), end))
}

#[test]
fn lines_are_found_wherever_blocks_end() {
    for padding in 0..200 {
        let value = "v:".repeat(padding);
        let text = format!("A: {value}x\r\nAccept: :\r\nB:{padding} \r\n\r\nbody: of\r\n\n\0");
        let (fields, end) = read(text.as_bytes()).unwrap();
        let value = format!("{value}x").into_bytes();
        let expected = [
            (b"A".to_vec(), value),
            (b"Accept".to_vec(), b":".to_vec()),
            (b"B".to_vec(), padding.to_string().into_bytes()),
        ];
        assert_eq!(fields, expected);
        assert_eq!(&text[end..], "body: of\r\n\n\0");
        assert!((0..end).all(|cut| read(&text.as_bytes()[..cut]).is_none()), "incomplete heads are left");
    }
}

#[test]
fn what_is_unusual_is_left() {
    for text in [
        "A: b\n\r\n",
        "A: b\r\n\n",
        "A b\r\n\r\n",
        ": b\r\n\r\n",
        "A : b\r\n\r\n",
        " A: b\r\n\r\n",
        "A: b\r\n c\r\n\r\n",
        "A: b\tc\r\n\r\n",
        "A: \0\r\n\r\n",
        "A: b\rc\r\n\r\n",
        "A: \x7f\r\n\r\n",
        "content\rlength: 1\r\n\r\n",
        "\n\r\n",
        "\r\r\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(read(b"\r\n"), Some((vec![], 2)));
}
