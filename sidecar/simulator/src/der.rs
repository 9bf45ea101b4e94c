//! Just enough DER to write the SGX extension of a PCK certificate.

use rcgen::CustomExtension;

/// Wraps content in one OCTET STRING, as dstack wraps the value of every extension of its own.
pub(crate) fn octet_string(content: &[u8]) -> Vec<u8> {
    tlv(0x04, content)
}

/// What the SGX extension (1.2.840.113741.1.13.1) says about a platform.
pub(crate) struct SgxExtension {
    pub(crate) ppid: [u8; 16],
    pub(crate) cpu_svn: [u8; 16],
    pub(crate) pce_svn: u8,
    pub(crate) pce_id: [u8; 2],
    pub(crate) fmspc: [u8; 6],
    pub(crate) platform_instance: [u8; 16],
    pub(crate) smt: bool,
}

impl SgxExtension {
    /// The extension as Intel's PCK Certificate and CRL Profile lays it out.
    pub(crate) fn to_extension(&self) -> CustomExtension {
        let components = self.cpu_svn.iter().zip(1..).map(|(&svn, number)| entry(&[2, number], small_integer(svn)));
        let tcb = components
            .chain([entry(&[2, 17], small_integer(self.pce_svn)), entry(&[2, 18], octet_string(&self.cpu_svn))])
            .collect::<Vec<_>>();
        let configuration = [
            entry(&[7, 1], boolean(false)), // dynamic platform
            entry(&[7, 2], boolean(false)), // cached keys
            entry(&[7, 3], boolean(self.smt)),
        ];
        let der = sequence(&[
            entry(&[1], octet_string(&self.ppid)),
            entry(&[2], sequence(&tcb)),
            entry(&[3], octet_string(&self.pce_id)),
            entry(&[4], octet_string(&self.fmspc)),
            entry(&[5], tlv(0x0a, &[1])), // SGX type: scalable
            entry(&[6], octet_string(&self.platform_instance)),
            entry(&[7], sequence(&configuration)),
        ]);
        CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], der)
    }
}

/// A pair of an object identifier under 1.2.840.113741.1.13.1 and its value.
fn entry(arcs: &[u8], value: Vec<u8>) -> Vec<u8> {
    const SGX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    sequence(&[tlv(0x06, &[&SGX, arcs].concat()), value])
}

fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &items.concat())
}

fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

fn small_integer(value: u8) -> Vec<u8> {
    // A leading zero keeps a value with the top bit set from being read as negative.
    if value < 0x80 { tlv(0x02, &[value]) } else { tlv(0x02, &[0, value]) }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = content.len().to_be_bytes();
    let mut der = vec![tag];
    match content.len() {
        0..=0x7f => der.push(low),
        0x80..=0xff => der.extend([0x81, low]),
        0x100..=0xffff => der.extend([0x82, middle, low]),
        _ => der.extend([0x83, high, middle, low]),
    }
    der.extend_from_slice(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(octet_string(&[7; 0x7f])[..3], [0x04, 0x7f, 7]);
        assert_eq!(octet_string(&[7; 0x80])[..4], [0x04, 0x81, 0x80, 7]);
        assert_eq!(octet_string(&[7; 0x100])[..5], [0x04, 0x82, 0x01, 0x00, 7]);
        assert_eq!(octet_string(&[7; 0x1_0000])[..6], [0x04, 0x83, 0x01, 0x00, 0x00, 7]);
    }

    #[test]
    fn an_integer_never_reads_as_negative() {
        assert_eq!(small_integer(0x7f), [0x02, 1, 0x7f]);
        assert_eq!(small_integer(0x80), [0x02, 2, 0, 0x80]);
    }
}
