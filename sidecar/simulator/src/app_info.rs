//! The content of extension `.9`: what a KMS says about an application, in positional MessagePack.

use postern_identity::DeviceId;
use sha2::{Digest as _, Sha256};

use crate::{Cvm, OS_IMAGE};

/// The head of a MessagePack array of eight elements, and that of a byte string with a length of one byte.
const ARRAY_OF_8: u8 = 0x98;
const BIN_8: u8 = 0xc4;

/// dstack reads the device from an attestation that nobody verified, where it is the hash of nothing.
pub(crate) fn unverified_device() -> DeviceId {
    DeviceId(Sha256::digest(b"").into())
}

impl Cvm {
    /// App id, compose hash, instance id, device id, `mr_system`, `mr_aggregated`, OS image hash and key provider.
    pub(crate) fn app_info(&self) -> Vec<u8> {
        let fields = [
            self.app_id().as_bytes().to_vec(),
            self.compose_hash().as_bytes().to_vec(),
            self.instance_id().as_bytes().to_vec(),
            unverified_device().as_bytes().to_vec(),
            self.mr_system().to_vec(),
            self.mr_aggregated().to_vec(),
            OS_IMAGE.as_bytes().to_vec(),
            self.key_provider(),
        ];
        let mut info = vec![ARRAY_OF_8];
        for field in fields {
            // The longest field, the key provider, has some 210 bytes.
            info.extend([BIN_8, u8::try_from(field.len()).unwrap_or(u8::MAX)]);
            info.extend(field);
        }
        info
    }
}
