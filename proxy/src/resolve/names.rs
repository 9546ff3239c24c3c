//! The search list of resolv.conf: which absolute names a written name may mean, in order.
//!
//! Done here and not by the client library, which tries the next name after any error: a time-out for the
//! first and NXDOMAIN for the second would look like a name that does not exist.

use hickory_resolver::proto::rr::Name;

/// The absolute names to ask for. `ndots` and `search` are those of resolv.conf.
pub(super) fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() || name.is_localhost() {
        return vec![absolute];
    }
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let searched = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
    let mut list: Vec<_> = searched.collect();
    for name in &mut list {
        name.set_fqdn(true);
    }
    if dots >= ndots {
        list.insert(0, absolute);
    } else {
        list.push(absolute);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_as_resolv_conf_says() {
        let name = |text: &str| Name::from_str_relaxed(text).unwrap();
        let search = [name("shop.svc.cluster.local"), name("svc.cluster.local.")];
        let list = |text: &str, ndots| -> Vec<String> {
            candidates(&name(text), &search, ndots).iter().map(ToString::to_string).collect()
        };
        assert_eq!(list("a", 5), ["a.shop.svc.cluster.local.", "a.svc.cluster.local.", "a."]);
        assert_eq!(list("a.b", 1), ["a.b.", "a.b.shop.svc.cluster.local.", "a.b.svc.cluster.local."]);
        assert_eq!(list("a.b.", 5), ["a.b."]);
        assert_eq!(list("localhost", 5), ["localhost."]);
        assert_eq!(list("_http._tcp.a", 5)[0], "_http._tcp.a.shop.svc.cluster.local.");
    }
}
