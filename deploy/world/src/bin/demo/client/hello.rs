//! ClientHellos written by hand, so that they can be wrong.

/// A TLS 1.3 ClientHello in one record, with a `server_name` extension for each list of names; `padding` adds so many
/// bytes of padding extension (RFC 7685).
pub(crate) fn hello(name_lists: &[&[&[u8]]], padding: usize) -> Vec<u8> {
    let mut extensions: Vec<u8> = Vec::new();
    for names in name_lists {
        let entries = names.iter().flat_map(|name| [vec![0], sized(name)].concat()).collect::<Vec<u8>>();
        extensions.extend(extension(0, &sized(&entries)));
    }
    extensions.extend(extension(43, &[2, 3, 4])); // supported_versions: TLS 1.3
    extensions.extend(extension(10, &sized(&[0, 29]))); // supported_groups: x25519
    extensions.extend(extension(13, &sized(&[4, 3]))); // signature_algorithms: ecdsa_secp256r1_sha256
    extensions.extend(extension(51, &sized(&[&[0, 29][..], &sized(&[9; 32])].concat()))); // key_share
    if padding > 0 {
        extensions.extend(extension(21, &vec![0; padding]));
    }

    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // session id
    body.extend(sized(&[0x13, 0x01])); // TLS_AES_128_GCM_SHA256
    body.extend([1, 0]); // compression: none
    body.extend(sized(&extensions));
    let [.., high, middle, low] = body.len().to_be_bytes();
    let message = [&[1, high, middle, low][..], &body].concat();
    // A message longer than a record goes into several.
    message.chunks(16_384).flat_map(|fragment| [&[22, 3, 1][..], &sized(fragment)].concat()).collect()
}

/// The usual one: a single name.
pub(crate) fn hello_for(name: &str) -> Vec<u8> {
    hello(&[&[name.as_bytes()]], 0)
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(content)].concat()
}

/// The bytes behind their length, which TLS writes in two bytes here.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let [.., high, low] = bytes.len().to_be_bytes();
    [&[high, low][..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_add_up() {
        let wire = hello_for("a.postern.test");
        assert_eq!(usize::from(u16::from_be_bytes([wire[3], wire[4]])), wire.len() - 5);
        assert_eq!(usize::from(u16::from_be_bytes([wire[7], wire[8]])), wire.len() - 9);
        assert!(hello(&[], 20_000).len() > 20_000);
    }
}
