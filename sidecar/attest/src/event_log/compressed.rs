//! The compressed form in which extension `.2` may carry a log: dstack's magic, then one gzip member (RFC 1952).

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::{EventLog, EventLogError, within};

const MAGIC: &[u8] = b"ELGZv1";

/// A compressed log that grows beyond this is refused, however small it came. dstack itself stops at 16 KiB.
pub const MAX_INFLATED_BYTES: usize = 64 * 1024;

impl EventLog {
    /// Reads the content of extension `.2` (without its OCTET STRING): JSON, or compressed JSON.
    ///
    /// # Errors
    /// As [`Self::from_json`], and when compressed JSON is damaged, grows beyond [`MAX_INFLATED_BYTES`] or is followed by
    /// other bytes.
    pub fn from_extension(content: &[u8]) -> Result<Self, EventLogError> {
        match content.strip_prefix(MAGIC) {
            None => Self::from_json(content),
            Some(gzip) => Self::from_json(&inflate(gzip)?),
        }
    }

    /// Writes the compressed form.
    ///
    /// # Errors
    /// None in practice: every event has a JSON form, and memory takes what is written.
    pub fn to_compressed(&self) -> Result<Vec<u8>, EventLogError> {
        let mut encoder = GzEncoder::new(MAGIC.to_vec(), Compression::best());
        let written = encoder.write_all(&self.to_json()?).and_then(|()| encoder.finish());
        written.map_err(|error| EventLogError::Compressed(error.to_string()))
    }
}

fn inflate(gzip: &[u8]) -> Result<Vec<u8>, EventLogError> {
    let limit = u64::try_from(MAX_INFLATED_BYTES).unwrap_or(u64::MAX);
    let mut json = Vec::new();
    let mut limited = GzDecoder::new(gzip).take(limit.saturating_add(1));
    limited.read_to_end(&mut json).map_err(|error| EventLogError::Compressed(error.to_string()))?;
    within(json.len(), MAX_INFLATED_BYTES, "bytes when inflated")?;
    match limited.into_inner().into_inner().len() {
        0 => Ok(json),
        bytes => Err(EventLogError::Compressed(format!("{bytes} bytes follow it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::Event;
    use proptest::prelude::*;

    fn log() -> EventLog {
        EventLog(vec![Event::runtime("app-id", &[1; 20]), Event::runtime("system-ready", b"")])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(MAGIC.to_vec(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        let compressed = log().to_compressed().unwrap();
        assert_eq!(compressed[..8], *b"ELGZv1\x1f\x8b");
        assert!(compressed.len() < log().to_json().unwrap().len());
        assert_eq!(EventLog::from_extension(&compressed), Ok(log()));
        assert_eq!(EventLog::from_extension(&log().to_json().unwrap()), Ok(log()));
    }

    #[test]
    fn a_log_written_by_another_gzip_is_read() {
        // `printf '[]' | gzip -n`, behind the magic.
        let bytes = b"ELGZv1\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x8b\x8e\x05\x00\x29\xbb\x4c\x0d\x02\x00\x00\x00";
        assert_eq!(EventLog::from_extension(bytes), Ok(EventLog::default()));
    }

    #[test]
    fn a_small_thing_that_grows_large_is_refused_before_it_has_grown() {
        let bomb = gzip(&vec![b' '; 64 * MAX_INFLATED_BYTES]);
        assert!(bomb.len() < 8 * 1024);
        let refused = EventLog::from_extension(&bomb).unwrap_err();
        let (found, limit) = (MAX_INFLATED_BYTES + 1, MAX_INFLATED_BYTES);
        assert_eq!(refused, EventLogError::TooLarge { found, limit, unit: "bytes when inflated" });
        let fits = [&b"[]"[..], &vec![b' '; MAX_INFLATED_BYTES - 2]].concat();
        assert_eq!(EventLog::from_extension(&gzip(&fits)), Ok(EventLog::default()));
    }

    #[test]
    fn bytes_behind_it_are_refused_and_so_is_a_second_member() {
        let one = log().to_compressed().unwrap();
        for behind in [&[0][..], &one[MAGIC.len()..]] {
            let refused = EventLog::from_extension(&[&one[..], behind].concat());
            assert!(matches!(refused, Err(EventLogError::Compressed(_))), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_panics(at in any::<prop::sample::Index>(), bits in 1..=255_u8, end in any::<prop::sample::Index>()) {
            let mut bytes = log().to_compressed().unwrap();
            prop_assert!(EventLog::from_extension(&bytes[..end.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            EventLog::from_extension(&bytes).map(drop).ok();
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            EventLog::from_extension(&[MAGIC, &bytes].concat()).map(drop).ok();
        }
    }
}
