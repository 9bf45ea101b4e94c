//! What proves by SCRAM that a client knows a secret.

use std::fmt;

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{Padded, RoleMap, judge};
use crate::authentication::scram::Proof;
use crate::scram::{self, KEY, Keys, SALT};

/// The verifiers of all secrets of a role map. A secret is what clients have as their password: 64 hex digits in lower case.
pub struct Verifiers {
    salts: Zeroizing<[u8; KEY]>,
    names: Vec<String>,
    grants: Vec<Grant>,
}

/// One secret opens one role.
struct Grant {
    stored: scram::Key,
    server: scram::Key,
    name: Padded,
    role: u32,
}

/// A client that has proven a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<'a> {
    /// The role that the secret opens for it.
    pub role: &'a str,
    /// What proves to the client that we know the secret as well.
    pub signature: [u8; KEY],
}

impl Verifiers {
    /// The verifiers of a map. `salts` is the key from which all salts are made, those of unknown names as well; it has to stay
    /// the same for as long as nobody is to tell a name that exists from one that does not.
    #[must_use]
    pub fn new(map: &RoleMap, salts: &[u8; KEY]) -> Self {
        let mut verifiers = Self {
            salts: Zeroizing::new(*salts),
            names: map.names.clone(),
            grants: Vec::with_capacity(map.grants.len()),
        };
        for grant in &map.grants {
            let keys = Keys::of(grant.secret.to_text().as_bytes(), &verifiers.salt(grant.name.text()));
            let (stored, server) = (keys.stored(), keys.server);
            verifiers.grants.push(Grant { stored, server, name: grant.name, role: grant.role });
        }
        verifiers
    }

    /// The salt of a user's name, whether there is such a role or not.
    #[must_use]
    pub fn salt(&self, user: &[u8]) -> [u8; SALT] {
        scram::sign(&self.salts, user).first_chunk().copied().unwrap_or_default()
    }

    /// The role that `proof` opens for `user`. The proof is tried on every verifier and none is skipped, so that an unknown
    /// role and a wrong secret cost the same.
    #[must_use]
    pub fn prove(&self, user: &[u8], proof: &Proof) -> Option<Proven<'_>> {
        let user = Padded::of_user(user);
        let mut server = scram::Key::default();
        let role = judge(&self.grants, |grant| {
            let key = scram::xor(proof.bytes(), &scram::sign(&grant.stored, proof.signed()));
            let hit = scram::hash(&key).as_slice().ct_eq(grant.stored.as_slice()) & user.is(&grant.name);
            for (byte, granted) in server.iter_mut().zip(grant.server.iter()) {
                byte.conditional_assign(granted, hit);
            }
            (hit, grant.role)
        });
        let signature = *scram::sign(&server, proof.signed());
        let role = self.names.get(usize::try_from(role?).ok()?)?;
        Some(Proven { role, signature })
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifiers").field("names", &self.names).finish_non_exhaustive()
    }
}
