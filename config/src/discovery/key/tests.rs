use proptest::prelude::*;

use super::*;

fn key() -> impl Strategy<Value = Key> {
    let label = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    let port = 1..=u16::MAX;
    prop_oneof![
        Just(Key::Workload),
        Just(Key::Trust),
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| Key::address(SocketAddr::new(ip.into(), port))),
        (any::<[u16; 8]>(), any::<u16>()).prop_map(|(ip, port)| Key::address(SocketAddr::new(ip.into(), port))),
        (proptest::collection::vec("[a-z][a-z0-9_-]{0,20}", 1..6), port.clone())
            .prop_map(|(labels, port)| Key::Name { host: labels.join(".").into(), port }),
        (label, label, port).prop_map(|(namespace, name, port)| Key::service(&namespace, &name, port)),
        (label, label).prop_map(|(namespace, name)| Key::upstream(&namespace, &name)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(key in key()) {
        prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
    }

    #[test]
    fn what_is_read_is_written_so(text in "\\PC{0,60}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn parts_in_any_order_do_not_panic(text in "(address|name|service|upstream|workload)?[/:.a-zA-Z0-9\\[\\]]{0,40}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}

#[test]
fn spellings() {
    let ok = [
        "workload",
        "trust",
        "address/10.0.0.1:80",
        "address/[fd00::1]:80",
        "name/payments:80",
        "name/payments.shop.svc.cluster.local:8080",
        "service/shop/payments:8080",
        "upstream/shop/ledger",
    ];
    for text in ok {
        assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
    }
    let malformed = [
        "workload/",
        "trust/x",
        "address/10.0.0.1",
        "address/010.0.0.1:80",
        "address/[::ffff:10.0.0.1]:80",
        "address/[fe80::1%eth0]:80",
        "name/Payments:80",
        "name/payments",
        "name/payments.:80",
        "name/payments:080",
        "name/payments:0",
        "name/10.0.0.1:80",
        "name/a b:80",
        "service/shop:80",
        "service/shop/pay_ments:80",
        "service/shop/payments",
        "service/shop/a/b:80",
        "service//b:80",
        "upstream/shop",
    ];
    for text in malformed {
        assert!(matches!(text.parse::<Key>(), Err(KeyError::Malformed(..))), "{text}");
    }
    for text in ["", "secret/shop/tls", "WORKLOAD", "/"] {
        assert!(matches!(text.parse::<Key>(), Err(KeyError::Unknown(_))), "{text}");
    }
    assert_eq!("a".repeat(513).parse::<Key>(), Err(KeyError::TooLong(513)));
}

#[test]
fn authorities() {
    let key = |text: &str| Key::authority(text).map(|k| k.to_string());
    assert_eq!(key("Payments.Shop.").as_deref(), Some("name/payments.shop:80"));
    assert_eq!(key("payments:8080").as_deref(), Some("name/payments:8080"));
    assert_eq!(key("10.1.2.3").as_deref(), Some("address/10.1.2.3:80"));
    assert_eq!(key("[::ffff:10.1.2.3]:81").as_deref(), Some("address/10.1.2.3:81"));
    assert_eq!(key("[fd00::1]").as_deref(), Some("address/[fd00::1]:80"));
    for wrong in ["", ":80", "a:0", "a:99999", "a b", "a..b", "user@host", "a/b"] {
        assert_eq!(key(wrong), None, "{wrong}");
    }
}
