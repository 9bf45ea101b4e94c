use serde::{Deserialize, Serialize};

/// When the parts of one set of collateral were issued, in seconds since 1970, and after which evaluation.
///
/// All of it only ever grows at the source. A host that hands out a part from before a revocation can be told by it, as
/// long as somebody remembers what has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Issued {
    /// The TCB info.
    pub tcb_info: u64,
    /// The QE identity.
    pub qe_identity: u64,
    /// The root's revocation list.
    pub root_crl: u64,
    /// The platform authority's revocation list.
    pub pck_crl: u64,
    /// The lower TCB evaluation number of TCB info and QE identity. Intel issues older evaluations afresh on request, so that
    /// dates alone do not tell them.
    pub tcb_evaluation_number: u32,
}

impl Issued {
    /// In the order of the fields.
    pub(super) fn new([tcb_info, qe_identity, root_crl, pck_crl]: [u64; 4], tcb_evaluation_number: u32) -> Self {
        Self { tcb_info, qe_identity, root_crl, pck_crl, tcb_evaluation_number }
    }

    /// The first part that was issued before the same part of `mark`.
    #[must_use]
    pub fn older_than(&self, mark: &Self) -> Option<&'static str> {
        [
            ("TCB info", self.tcb_info < mark.tcb_info),
            ("QE identity", self.qe_identity < mark.qe_identity),
            ("root CRL", self.root_crl < mark.root_crl),
            ("PCK CRL", self.pck_crl < mark.pck_crl),
            ("TCB evaluation", self.tcb_evaluation_number < mark.tcb_evaluation_number),
        ]
        .into_iter()
        .find_map(|(part, older)| older.then_some(part))
    }

    /// The later of each part.
    #[must_use]
    pub fn latest(&self, other: &Self) -> Self {
        Self {
            tcb_info: self.tcb_info.max(other.tcb_info),
            qe_identity: self.qe_identity.max(other.qe_identity),
            root_crl: self.root_crl.max(other.root_crl),
            pck_crl: self.pck_crl.max(other.pck_crl),
            tcb_evaluation_number: self.tcb_evaluation_number.max(other.tcb_evaluation_number),
        }
    }

    /// The latest date of all, before which it cannot be now.
    #[must_use]
    pub fn newest_date(&self) -> u64 {
        self.tcb_info.max(self.qe_identity).max(self.root_crl).max(self.pck_crl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_older_whatever_the_others_are() {
        let mark = Issued::new([10, 20, 30, 40], 5);
        assert_eq!(mark.older_than(&mark), None);
        for (dates, evaluation, part) in [
            ([9, 99, 99, 99], 9, "TCB info"),
            ([99, 19, 99, 99], 9, "QE identity"),
            ([99, 99, 29, 99], 9, "root CRL"),
            ([99, 99, 99, 39], 9, "PCK CRL"),
            ([99, 99, 99, 99], 4, "TCB evaluation"),
        ] {
            assert_eq!(Issued::new(dates, evaluation).older_than(&mark), Some(part));
        }
        let latest = mark.latest(&Issued::new([9, 99, 9, 99], 4));
        assert_eq!(latest, Issued::new([10, 99, 30, 99], 5));
        assert_eq!(latest.newest_date(), 99);
    }
}
