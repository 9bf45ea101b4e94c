//! How large the packets in the tunnel may be, by whom they are for.

use std::collections::BTreeMap;
use std::str::FromStr;

use postern_identity::{AppId, InstanceId};

/// The largest packets in the tunnel, in bytes: one size for every instance, and others for those that are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSizes {
    usual: u16,
    named: BTreeMap<[u8; 20], u16>,
}

/// The size for the instance with this id, or for the app with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedSize {
    /// The id.
    pub id: [u8; 20],
    /// The size, in bytes.
    pub mtu: u16,
}

/// A text gives no size to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ID=MTU, an app's or an instance's id of 40 hex digits and a size in bytes")]
pub struct NotASize;

impl FromStr for NamedSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let (id, mtu) = text.split_once('=').ok_or(NotASize)?;
        let AppId(id) = id.parse().map_err(|_| NotASize)?;
        Ok(Self { id, mtu: mtu.parse().map_err(|_| NotASize)? })
    }
}

impl PacketSizes {
    /// The usual size and the named ones; the last one counts where an id has several.
    #[must_use]
    pub fn new(usual: u16, named: impl IntoIterator<Item = NamedSize>) -> Self {
        Self { usual, named: named.into_iter().map(|size| (size.id, size.mtu)).collect() }
    }

    /// The size for an instance: its own, or else its app's, or else the usual one.
    #[must_use]
    pub fn of(&self, app: &AppId, instance: &InstanceId) -> u16 {
        let named = self.named.get(instance.as_bytes()).or_else(|| self.named.get(app.as_bytes()));
        named.copied().unwrap_or(self.usual)
    }

    /// The largest of all sizes, which is the tunnel's.
    #[must_use]
    pub fn largest(&self) -> u16 {
        self.named.values().copied().fold(self.usual, u16::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_comes_before_its_app_and_the_app_before_everybody() {
        let named = [([7; 20], 1_300), ([8; 20], 8_920)].map(|(id, mtu)| NamedSize { id, mtu });
        let sizes = PacketSizes::new(1_420, named);
        for (app, instance, mtu) in [(1, 2, 1_420), (7, 2, 1_300), (7, 8, 8_920), (1, 8, 8_920), (8, 7, 1_300)] {
            assert_eq!(sizes.of(&AppId([app; 20]), &InstanceId([instance; 20])), mtu, "app {app}, instance {instance}");
        }
        assert_eq!(sizes.largest(), 8_920);
        assert_eq!(PacketSizes::new(1_420, [NamedSize { id: [7; 20], mtu: 1_300 }]).largest(), 1_420);
    }

    #[test]
    fn a_size_names_whom_it_is_for() {
        let id = "07".repeat(20);
        assert_eq!(format!("{id}=1300").parse(), Ok(NamedSize { id: [7; 20], mtu: 1_300 }));
        let wrong = [
            "1300".to_owned(),
            id.clone(),
            format!("{id}="),
            format!("{id}=70000"),
            format!("{id}=-1"),
            "07=1300".to_owned(),
        ];
        for text in wrong {
            assert_eq!(text.parse::<NamedSize>(), Err(NotASize), "{text}");
        }
    }
}
