//! ClientHellos made by hand, good and bad.

/// Asks for TLS, and waits for one byte.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Asks for GSSAPI encryption, and waits for one byte.
pub(crate) const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A ClientHello with one host name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    hello_of(&[server_name(&[name.as_bytes()])])
}

/// The name of the app whose id is this byte, twenty times.
pub(crate) fn app_name(app: u8) -> String {
    format!("{}s.postern.test", format!("{app:02x}").repeat(20))
}

/// A ClientHello with these extensions, and those that a server needs.
pub(crate) fn hello_of(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut all = extension(13, &[0, 2, 4, 3]);
    all.extend(extensions.concat());
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend(all);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut message = vec![1, length[1], length[2], length[3]];
    message.extend(body);
    records(&message, 1 << 14)
}

/// A `server_name` extension with these host names.
pub(crate) fn server_name(names: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.push(0);
        list.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend(*name);
    }
    let mut body = u16::try_from(list.len()).unwrap().to_be_bytes().to_vec();
    body.extend(list);
    extension(0, &body)
}

/// Padding (RFC 7685).
pub(crate) fn padding(size: usize) -> Vec<u8> {
    extension(21, &vec![0; size])
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut extension = kind.to_be_bytes().to_vec();
    extension.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    extension.extend(body);
    extension
}

/// A handshake message in records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
        record.extend(fragment);
        record
    };
    message.chunks(size).flat_map(record).collect()
}
