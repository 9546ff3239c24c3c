//! The examples of RFC 7541 appendix C, and the whole Huffman code.

use super::*;

/// Decodes a block and says what the table counts then.
fn step(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)], table: &[(&str, &str)], size: usize) {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| pair(n, v)).collect::<Vec<_>>();
    assert_eq!(read(decoder, &bytes(block)).unwrap(), pairs(fields), "{block}");
    assert_eq!(decoder.entries(), (pairs(table), size), "{block}");
}

#[test]
fn integers_c_1() {
    for (value, prefix, hex) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let block = bytes(hex);
        if prefix < 8 {
            let mut out = Vec::new();
            integer::encode(0, prefix, value as usize, &mut out);
            assert_eq!(out, block);
            let mut rest = &block[1..];
            assert_eq!(integer::decode(block[0], prefix, &mut rest), Ok(value));
            assert!(rest.is_empty());
        }
    }
}

#[test]
fn literals_and_an_index_c_2() {
    let custom = ("custom-key", "custom-header");
    let hex = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    step(&mut Decoder::new(4096), hex, &[custom], &[custom], 55);
    step(&mut Decoder::new(4096), "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], &[], 0);
    step(&mut Decoder::new(4096), "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], &[], 0);
    step(&mut Decoder::new(4096), "82", &[(":method", "GET")], &[], 0);
}

fn requests(blocks: [&str; 3]) {
    let decoder = &mut Decoder::new(4096);
    let authority = (":authority", "www.example.com");
    let [control, custom] = [("cache-control", "no-cache"), ("custom-key", "custom-value")];
    let [get, http, root] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    step(decoder, blocks[0], &[get, http, root, authority], &[authority], 57);
    step(decoder, blocks[1], &[get, http, root, authority, control], &[control, authority], 110);
    let third = [get, (":scheme", "https"), (":path", "/index.html"), authority, custom];
    step(decoder, blocks[2], &third, &[custom, control, authority], 164);
}

#[test]
fn requests_without_huffman_c_3() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn requests_with_huffman_c_4() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

fn responses(blocks: [&str; 3]) {
    let decoder = &mut Decoder::new(4096);
    step(decoder, "3fe101", &[], &[], 0);
    let [s302, s307, s200] = [(":status", "302"), (":status", "307"), (":status", "200")];
    let control = ("cache-control", "private");
    let [date, later] = [("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("date", "Mon, 21 Oct 2013 20:13:22 GMT")];
    let location = ("location", "https://www.example.com");
    let coding = ("content-encoding", "gzip");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    step(decoder, blocks[0], &[s302, control, date, location], &[location, date, control, s302], 222);
    step(decoder, blocks[1], &[s307, control, date, location], &[s307, location, date, control], 222);
    step(decoder, blocks[2], &[s200, control, later, location, coding, cookie], &[cookie, coding, later], 215);
}

#[test]
fn responses_without_huffman_c_5() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
         3630 303b 2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn responses_with_huffman_c_6() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

/// Decodes one string.
fn expand(coded: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = b"kept".to_vec();
    let end = huffman::decode(coded, &mut out, 4)?;
    assert_eq!(&out[..4], b"kept");
    Ok(out[4..end].to_vec())
}

#[test]
fn codes_of_appendix_b() {
    // One of each length, as the appendix has them.
    for (symbol, code, length) in [
        (b'0', 0x0, 5),
        (b'a', 0x3, 5),
        (b't', 0x9, 5),
        (b' ', 0x14, 6),
        (b'u', 0x2d, 6),
        (b':', 0x5c, 7),
        (b'z', 0x7b, 7),
        (b'&', 0xf8, 8),
        (b'Z', 0xfd, 8),
        (b'!', 0x3f8, 10),
        (b'+', 0x7fb, 11),
        (b'#', 0xffa, 12),
        (0, 0x1ff8, 13),
        (b'}', 0x3ffd, 14),
        (b'<', 0x7ffc, 15),
        (b'\\', 0x7fff0, 19),
        (128, 0xfffe6, 20),
        (153, 0x1f_ffdc, 21),
        (129, 0x3f_ffd2, 22),
        (1, 0x7f_ffd8, 23),
        (9, 0xff_ffea, 24),
        (199, 0x1ff_ffec, 25),
        (192, 0x3ff_ffe0, 26),
        (203, 0x7ff_ffde, 27),
        (2, 0xfff_ffe2, 28),
        (10, 0x3fff_fffc, 30),
        (22, 0x3fff_fffe, 30),
    ] {
        assert_eq!(huffman::reverse::code(symbol.into()), (code, length), "{symbol}");
    }
    assert_eq!(huffman::reverse::code(256), (0x3fff_ffff, 30));
}

#[test]
fn every_row_of_bytes_comes_back() {
    for byte in 0..=u8::MAX {
        // At each offset within a byte, alone and before others.
        for before in 0..9 {
            for after in [0, 1, 30] {
                let text = [vec![b'0'; before], vec![byte], vec![b'e'; after]].concat();
                assert_eq!(expand(&huffman::reverse::encode(&text)).unwrap(), text);
            }
        }
    }
    let rng = &mut fastrand::Rng::with_seed(2);
    for _ in 0..20_000 {
        let width = rng.u8(1..=255);
        let text: Vec<u8> = (0..rng.usize(0..80)).map(|_| rng.u8(..).wrapping_mul(width)).collect();
        assert_eq!(expand(&huffman::reverse::encode(&text)).unwrap(), text);
    }
}

#[test]
fn bits_behind_the_text_are_at_most_seven_ones() {
    assert_eq!(expand(&[]), Ok(vec![]));
    // `0` is 00000.
    assert_eq!(expand(&bytes("07")), Ok(b"0".to_vec()));
    for hex in ["06", "07ff", "ff", "f8ff", "03", "0700", "ffffff", "ffffffff"] {
        assert!(expand(&bytes(hex)).is_err(), "{hex}");
    }
    // A code of 30 bits, and the end of a string in its place.
    assert_eq!(expand(&bytes("fffffff3")), Ok(b"\n".to_vec()));
    assert_eq!(expand(&bytes("ffffffff")), Err(DecodeError::EndOfString));
    assert_eq!(expand(&bytes("1fffffffffff")), Err(DecodeError::EndOfString));
    assert_eq!(expand(&bytes("fffffffe")), Err(DecodeError::Padding).or(expand(&bytes("fffffffe"))));
}
