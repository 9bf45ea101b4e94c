//! Which peer owns which inner address (AllowedIPs).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Prefixes and their owners; the longest prefix that holds an address decides. A lookup costs one probe per distinct
/// prefix length in use, which in a tunnel of single addresses is one.
#[derive(Debug, Default)]
pub(super) struct AllowedIps {
    owners: HashMap<IpNet, u32>,
    /// How many prefixes of each length there are, by family.
    lengths_v4: BTreeMap<u8, usize>,
    lengths_v6: BTreeMap<u8, usize>,
}

impl AllowedIps {
    /// The owner of an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<u32> {
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.keys().rev().find_map(|length| self.owners.get(&network(address, *length)?).copied())
    }

    /// Gives a prefix to an owner, and takes it from whoever had it.
    pub(super) fn claim(&mut self, prefix: IpNet, owner: u32) {
        let prefix = prefix.trunc();
        if self.owners.insert(prefix, owner).is_none() {
            *self.lengths(prefix).entry(prefix.prefix_len()).or_default() += 1;
        }
    }

    /// Takes a prefix from an owner, if it is still its own.
    pub(super) fn release(&mut self, prefix: IpNet, owner: u32) {
        let prefix = prefix.trunc();
        if self.owners.get(&prefix) != Some(&owner) {
            return;
        }
        self.owners.remove(&prefix);
        let lengths = self.lengths(prefix);
        if let Some(count) = lengths.get_mut(&prefix.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&prefix.prefix_len());
            }
        }
    }

    fn lengths(&mut self, prefix: IpNet) -> &mut BTreeMap<u8, usize> {
        match prefix {
            IpNet::V4(_) => &mut self.lengths_v4,
            IpNet::V6(_) => &mut self.lengths_v6,
        }
    }
}

fn network(address: IpAddr, length: u8) -> Option<IpNet> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Net::new(address, length).ok()?.trunc().into(),
        IpAddr::V6(address) => Ipv6Net::new(address, length).ok()?.trunc().into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_narrowest_prefix_decides_and_the_last_claim_wins() {
        let mut allowed = AllowedIps::default();
        allowed.claim(net("10.0.0.0/8"), 1);
        allowed.claim(net("10.1.0.0/16"), 2);
        allowed.claim(net("10.1.2.3/32"), 3);
        assert_eq!(allowed.owner(ip("10.1.2.3")), Some(3));
        assert_eq!(allowed.owner(ip("10.1.2.4")), Some(2));
        assert_eq!(allowed.owner(ip("10.2.0.1")), Some(1));
        assert_eq!(allowed.owner(ip("11.0.0.1")), None);
        allowed.claim(net("10.1.2.3/32"), 4);
        allowed.release(net("10.1.2.3/32"), 3);
        assert_eq!(allowed.owner(ip("10.1.2.3")), Some(4), "what another has claimed since is not released");
        allowed.release(net("10.1.2.3/32"), 4);
        assert_eq!(allowed.owner(ip("10.1.2.3")), Some(2));
    }

    #[test]
    fn families_are_apart() {
        let mut allowed = AllowedIps::default();
        allowed.claim(net("0.0.0.0/0"), 1);
        assert_eq!(allowed.owner(ip("::1")), None);
        assert_eq!(allowed.owner(ip("::ffff:10.0.0.1")), None);
        allowed.claim(net("fd00::/8"), 2);
        assert_eq!(allowed.owner(ip("fd12::1")), Some(2));
        assert_eq!(allowed.owner(ip("1.2.3.4")), Some(1));
    }

    fn prefixes() -> impl Strategy<Value = IpNet> {
        // Few bits vary, so that prefixes meet each other and the addresses that are asked for.
        prop_oneof![
            (0_u32..8, 0_u8..=32)
                .prop_map(|(bits, len)| Ipv4Net::new(Ipv4Addr::from(bits << 29 | bits), len).unwrap().into()),
            (0_u128..8, 0_u8..=128)
                .prop_map(|(bits, len)| Ipv6Net::new(Ipv6Addr::from(bits << 125 | bits), len).unwrap().into()),
        ]
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_list_would(
            steps in prop::collection::vec((any::<bool>(), prefixes(), 0_u32..4), 0..40),
            asked in prop::collection::vec(prefixes(), 1..10),
        ) {
            let mut allowed = AllowedIps::default();
            let mut list: Vec<(IpNet, u32)> = Vec::new();
            for (claim, prefix, owner) in steps {
                let prefix = prefix.trunc();
                if claim {
                    allowed.claim(prefix, owner);
                    list.retain(|(known, _)| *known != prefix);
                    list.push((prefix, owner));
                } else {
                    allowed.release(prefix, owner);
                    list.retain(|entry| *entry != (prefix, owner));
                }
            }
            for address in asked.iter().map(IpNet::addr) {
                let expected =
                    list.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                prop_assert_eq!(allowed.owner(address), expected.map(|(_, owner)| *owner));
            }
        }
    }
}
