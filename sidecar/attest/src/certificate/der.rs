//! The DER OCTET STRING, which dstack wraps around the content of every extension.

use super::CertificateError;

const OCTET_STRING: u8 = 0x04;

/// Wraps `content` in an OCTET STRING.
pub(super) fn octet_string(content: &[u8]) -> Vec<u8> {
    let mut der = vec![OCTET_STRING];
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    match significant.as_slice() {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        long => {
            // At most eight bytes, so the sum stays within one byte.
            der.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

/// The content of an extension's value, whether or not it was wrapped.
///
/// A raw version 4 quote starts with the tag of an OCTET STRING by chance, followed by the length zero. No extension has
/// an empty content, so that an empty string with something behind it is raw content.
pub(super) fn content<'a>(value: &'a [u8], extension: &'static str) -> Result<&'a [u8], CertificateError> {
    let malformed = |detail: &str| CertificateError::Malformed { extension, detail: detail.to_owned() };
    match value {
        [] | [OCTET_STRING] | [OCTET_STRING, 0] => Err(malformed("it is empty")),
        [OCTET_STRING, 0, ..] => Ok(value),
        [OCTET_STRING, rest @ ..] => {
            let (length, content) = length(rest).ok_or_else(|| malformed("its length is not DER"))?;
            if content.len() < length {
                return Err(malformed("its content is cut short"));
            }
            match content.len() - length {
                0 => Ok(content),
                bytes => Err(CertificateError::TrailingBytes { what: extension, bytes }),
            }
        }
        raw => Ok(raw),
    }
}

/// A definite DER length in its shortest form, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [short, rest @ ..] if *short < 0x80 => Some((usize::from(*short), rest)),
        [0x81, a, rest @ ..] if *a >= 0x80 => Some((usize::from(*a), rest)),
        [0x82, a, b, rest @ ..] if *a != 0 => Some((usize::from(u16::from_be_bytes([*a, *b])), rest)),
        [0x83, a, b, c, rest @ ..] if *a != 0 => {
            Some((usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_wrapped_is_unwrapped(content_bytes in prop::collection::vec(any::<u8>(), 1..700)) {
            let wrapped = octet_string(&content_bytes);
            prop_assert_eq!(content(&wrapped, ".x").unwrap(), &content_bytes[..]);
        }

        #[test]
        fn no_value_panics(value: Vec<u8>) {
            content(&value, ".x").map(<[u8]>::len).ok();
        }

        #[test]
        fn one_byte_more_or_less_is_refused(
            content_bytes in prop::collection::vec(any::<u8>(), 1..700),
            extra: u8,
        ) {
            let mut wrapped = octet_string(&content_bytes);
            wrapped.push(extra);
            let refused = content(&wrapped, ".x");
            prop_assert_eq!(refused, Err(CertificateError::TrailingBytes { what: ".x", bytes: 1 }));
            prop_assert!(content(&wrapped[..wrapped.len() - 2], ".x").is_err());
        }
    }

    #[test]
    fn a_raw_version_4_quote_is_not_taken_for_an_empty_string() {
        let quote = [4, 0, 2, 0, 0x81, 0, 0, 0];
        assert_eq!(content(&quote, ".1"), Ok(quote.as_slice()));
    }

    #[test]
    fn a_length_that_is_not_the_shortest_is_refused() {
        assert!(content(&[4, 0x81, 1, 9], ".x").is_err());
        assert!(content(&[4, 0x82, 0, 1, 9], ".x").is_err());
        assert!(content(&[4, 0x80, 9, 0, 0], ".x").is_err());
    }
}
