use std::fmt;

use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

use super::msgpack::{self, hex};
use super::{CertificateError, Extension, der};
use crate::oid;

const EXTENSION: &str = ".9";

/// What a KMS says about the application for which it signed a certificate (extension `.9`).
///
/// The KMS verified a quote before it said so; who reads the certificate has the KMS's word and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppInfo {
    /// The application.
    pub app_id: AppId,
    /// SHA-256 of the raw `app-compose.json`.
    pub compose_hash: ComposeHash,
    /// The CVM within the application, where it has one.
    pub instance_id: Option<InstanceId>,
    /// SHA-256 of the platform's PPID.
    pub device_id: DeviceId,
    /// dstack's digest over the measurements of the system.
    pub mr_system: [u8; 32],
    /// dstack's digest over all measurements.
    pub mr_aggregated: [u8; 32],
    /// The OS image, if known.
    pub os_image_hash: Option<OsImageHash>,
    /// Who provided the keys: dstack's JSON, or empty.
    pub key_provider: Vec<u8>,
    /// Digests of the scripts that ran before the application. Older issuers do not tell them.
    pub init_script_hashes: Vec<Vec<u8>>,
}

impl AppInfo {
    /// Reads the content of extension `.9` (without its OCTET STRING): a MessagePack list of eight or nine byte strings, or,
    /// as later issuers write it, a map in which each has its name.
    ///
    /// # Errors
    /// When it is malformed, has a field of the wrong length or twice, or is followed by other bytes.
    pub fn decode(content: &[u8]) -> Result<Self, CertificateError> {
        let Fields(fields, init_script_hashes) = msgpack::decode(content, EXTENSION)?;
        let [app_id, compose_hash, instance_id, device_id, mr_system, mr_aggregated, os_image_hash, key_provider] =
            fields;
        Ok(Self {
            app_id: AppId(fixed("app id", &app_id)?),
            compose_hash: ComposeHash(fixed("compose hash", &compose_hash)?),
            instance_id: optional("instance id", &instance_id)?.map(InstanceId),
            device_id: DeviceId(fixed("device id", &device_id)?),
            mr_system: fixed("system measurement", &mr_system)?,
            mr_aggregated: fixed("aggregated measurement", &mr_aggregated)?,
            os_image_hash: optional("OS image hash", &os_image_hash)?.map(OsImageHash),
            key_provider,
            init_script_hashes,
        })
    }

    /// Writes the extension.
    #[must_use]
    pub fn extension(&self) -> Extension {
        let optional = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        let fields = Fields(
            [
                self.app_id.0.to_vec(),
                self.compose_hash.0.to_vec(),
                optional(self.instance_id.as_ref().map(|id| id.0.as_slice())),
                self.device_id.0.to_vec(),
                self.mr_system.to_vec(),
                self.mr_aggregated.to_vec(),
                optional(self.os_image_hash.as_ref().map(|hash| hash.0.as_slice())),
                self.key_provider.clone(),
            ],
            self.init_script_hashes.clone(),
        );
        Extension { oid: oid::APP_INFO, content: der::octet_string(&msgpack::encode_positional(&fields)) }
    }
}

fn fixed<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], CertificateError> {
    bytes.try_into().map_err(|_| CertificateError::Malformed {
        extension: EXTENSION,
        detail: format!("its {what} has {} bytes instead of {N}", bytes.len()),
    })
}

fn optional<const N: usize>(what: &str, bytes: &[u8]) -> Result<Option<[u8; N]>, CertificateError> {
    if bytes.is_empty() { Ok(None) } else { fixed(what, bytes).map(Some) }
}

/// The names of the eight, where they have names.
const NAMES: [&str; 8] = [
    "app_id",
    "compose_hash",
    "instance_id",
    "device_id",
    "mr_system",
    "mr_aggregated",
    "os_image_hash",
    "key_provider_info",
];
const SCRIPTS: &str = "init_script_hashes";

/// The list as it is written. Its last element may be missing.
struct Fields([Vec<u8>; 8], Vec<Vec<u8>>);

#[derive(Serialize, Deserialize)]
struct Bytes(#[serde(with = "hex")] Vec<u8>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

impl Fields {
    fn of(fields: [Vec<u8>; 8], scripts: Option<Vec<Bytes>>) -> Self {
        Self(fields, scripts.unwrap_or_default().into_iter().map(|bytes| bytes.0).collect())
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("eight or nine fields, in a list or by their names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
        let mut fields: [Vec<u8>; 8] = Default::default();
        for (index, field) in fields.iter_mut().enumerate() {
            let missing = || serde::de::Error::invalid_length(index, &self);
            *field = list.next_element::<Bytes>()?.ok_or_else(missing)?.0;
        }
        let scripts: Option<Option<Vec<Bytes>>> = list.next_element()?;
        Ok(Fields::of(fields, scripts.flatten()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        use serde::de::Error as _;
        let mut found: [Option<Vec<u8>>; 8] = Default::default();
        let mut scripts = None;
        while let Some(name) = map.next_key::<String>()? {
            let twice = || A::Error::custom(format_args!("{name} stands twice"));
            let slot = NAMES.iter().zip(&mut found).find(|(known, _)| **known == name);
            if let Some((_, slot)) = slot {
                if slot.replace(map.next_value::<Bytes>()?.0).is_some() {
                    return Err(twice());
                }
            } else if name == SCRIPTS {
                if scripts.replace(map.next_value::<Option<Vec<Bytes>>>()?).is_some() {
                    return Err(twice());
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let mut fields: [Vec<u8>; 8] = Default::default();
        for ((field, found), name) in fields.iter_mut().zip(found).zip(NAMES) {
            *field = found.ok_or_else(|| A::Error::missing_field(name))?;
        }
        Ok(Fields::of(fields, scripts.flatten()))
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_tuple(9)?;
        for field in &self.0 {
            list.serialize_element(&Bytes(field.clone()))?;
        }
        let scripts: Vec<Bytes> = self.1.iter().cloned().map(Bytes).collect();
        list.serialize_element(&scripts)?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info() -> AppInfo {
        AppInfo {
            app_id: AppId([1; 20]),
            compose_hash: ComposeHash([2; 32]),
            instance_id: Some(InstanceId([3; 20])),
            device_id: DeviceId([4; 32]),
            mr_system: [5; 32],
            mr_aggregated: [6; 32],
            os_image_hash: Some(OsImageHash([7; 32])),
            key_provider: br#"{"name":"kms","id":"00"}"#.to_vec(),
            init_script_hashes: vec![vec![8; 32]],
        }
    }

    fn written(info: &AppInfo) -> Vec<u8> {
        der::content(&info.extension().content, EXTENSION).unwrap().to_vec()
    }

    #[test]
    fn the_list_has_the_bytes_that_dstack_writes() {
        let bytes = written(&info());
        assert_eq!(bytes[..4], [0x99, 0xc4, 20, 1], "nine elements, the first one binary");
        assert_eq!(AppInfo::decode(&bytes), Ok(info()));
    }

    #[test]
    fn older_issuers_leave_the_scripts_out_and_some_things_do_not_exist() {
        let mut bytes = written(&AppInfo { init_script_hashes: Vec::new(), ..info() });
        assert_eq!(bytes.pop(), Some(0x90), "an empty list");
        bytes[0] = 0x98;
        assert_eq!(AppInfo::decode(&bytes).unwrap().init_script_hashes, Vec::<Vec<u8>>::new());
        let bare = AppInfo { instance_id: None, os_image_hash: None, key_provider: Vec::new(), ..info() };
        assert_eq!(AppInfo::decode(&written(&bare)), Ok(bare));
    }

    /// The map of later issuers, with what `change` makes of it.
    fn named(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>)) -> Vec<u8> {
        let list = written(&info());
        let Fields(fields, _) = msgpack::decode(&list, EXTENSION).unwrap();
        let mut entries: Vec<_> = NAMES.into_iter().zip(fields).collect();
        change(&mut entries);
        let mut map = vec![0x80 | u8::try_from(entries.len() + 1).unwrap()];
        for (name, bytes) in entries {
            map.extend(rmp_serde::to_vec(name).unwrap());
            map.extend([0xc4, u8::try_from(bytes.len()).unwrap()]);
            map.extend(bytes);
        }
        map.extend(rmp_serde::to_vec(SCRIPTS).unwrap());
        map.extend([0x91, 0xc4, 32]);
        map.extend([8; 32]);
        map
    }

    #[test]
    fn later_issuers_give_each_field_its_name() {
        assert_eq!(AppInfo::decode(&named(|_| {})), Ok(info()));
        assert_eq!(AppInfo::decode(&named(|entries| entries.reverse())), Ok(info()));
        assert_eq!(AppInfo::decode(&named(|entries| entries.push(("later", vec![1])))), Ok(info()));
        let refused = |bytes: &[u8]| AppInfo::decode(bytes).unwrap_err().label();
        assert_eq!(refused(&named(|entries| drop(entries.pop()))), "extension_malformed", "one is missing");
        assert_eq!(
            refused(&named(|entries| entries.push(entries[0].clone()))),
            "extension_malformed",
            "one stands twice"
        );
        assert_eq!(refused(&named(|entries| entries[0].1.truncate(19))), "extension_malformed", "one is too short");
    }

    #[test]
    fn a_list_that_is_too_short_or_too_long_or_has_a_wrong_field_is_refused() {
        let bytes = written(&info());
        let refused = |bytes: &[u8]| AppInfo::decode(bytes).unwrap_err().label();
        assert_eq!(refused(&[&bytes[..], &[0]].concat()), "certificate_trailing_bytes");
        let longer = [&[0x9a], &bytes[1..], &[0xc0]].concat();
        assert_eq!(refused(&longer), "extension_malformed");
        let short_id = [&[0x99, 0xc4, 19], &bytes[4..]].concat();
        assert_eq!(refused(&short_id), "extension_malformed");
        for end in 0..bytes.len() {
            assert_eq!(refused(&bytes[..end]), "extension_malformed");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            AppInfo::decode(&bytes).map(drop).ok();
            AppInfo::decode(&[&[0x98], &bytes[..]].concat()).map(drop).ok();
        }
    }
}
