//! Which secret opens which role.

mod verifiers;

use std::fmt;
use std::str::FromStr;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::verifiers::{Proven, Verifiers};

/// Longest role name, as PostgreSQL's `NAMEDATALEN - 1`.
pub const MAX_NAME: usize = 63;
const SECRET: usize = 32;
/// How many secrets a role has at most: one, and the one that replaces it.
const MAX_SECRETS: usize = 2;
/// A random secret has this few distinct bytes less than once in 2^100 tries; invented ones often do.
const FEW_DISTINCT: usize = 8;

/// A shared secret of 32 bytes, written as 64 hex digits.
#[derive(Clone)]
pub struct ClusterSecret(Zeroizing<[u8; SECRET]>);

/// Why a text is no cluster secret. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Not exactly 64 hex digits.
    #[error("a cluster secret is 64 hex digits; make one with `openssl rand -hex 32`")]
    Format,
    /// 64 hex digits that nobody drew at random.
    #[error("this cluster secret is a placeholder; make one with `openssl rand -hex 32`")]
    Placeholder,
}

impl FromStr for ClusterSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let secret = decode(text.as_bytes()).ok_or(SecretError::Format)?;
        if is_placeholder(&secret) { Err(SecretError::Placeholder) } else { Ok(Self(secret)) }
    }
}

impl ClusterSecret {
    /// 64 hex digits in lower case.
    fn to_text(&self) -> Zeroizing<String> {
        // Room for all of it from the start: growing would leave copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(2 * SECRET));
        for byte in self.0.iter() {
            text.extend([byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()));
        }
        text
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret([redacted])")
    }
}

/// A role that clients may log in as.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name in Postgres, at most [`MAX_NAME`] bytes.
    pub name: String,
    /// Its secrets: one, two while one replaces the other, or none where no secret is to open it.
    pub secrets: Vec<ClusterSecret>,
    /// Further roles that these secrets open, so that a writer may also log in as a reader.
    pub opens: Vec<String>,
}

/// All roles of a cluster.
#[derive(Debug)]
pub struct RoleMap {
    names: Vec<String>,
    grants: Vec<Grant>,
    /// The roles that no grant opens.
    without_secret: Vec<String>,
}

/// One secret opens one role.
#[derive(Debug)]
struct Grant {
    secret: ClusterSecret,
    name: Padded,
    role: u32,
}

/// Why a set of roles is no role map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoleMapError {
    /// A name that PostgreSQL would cut, or an empty one.
    #[error("role name `{0}` must have 1 to 63 bytes and no NUL")]
    Name(String),
    /// The same role twice.
    #[error("role `{0}` is defined twice")]
    Repeated(String),
    /// `opens` names a role that does not exist.
    #[error("role `{0}` opens `{1}`, which is not defined")]
    Unknown(String, String),
    /// More secrets open the role than the replacement of one takes.
    #[error("role `{0}` has {1} secrets; expected one, or two while one replaces the other")]
    Secrets(String, usize),
    /// Two roles share a secret, so that one would open the other.
    #[error("roles `{0}` and `{1}` have the same secret")]
    SharedSecret(String, String),
}

impl RoleMap {
    /// Builds the map and checks that roles do not open each other by accident.
    ///
    /// # Errors
    /// See [`RoleMapError`].
    pub fn new(roles: Vec<Role>) -> Result<Self, RoleMapError> {
        let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
        check(&roles)?;
        let mut grants = Vec::new();
        for role in &roles {
            for opened in std::iter::once(&role.name).chain(&role.opens) {
                let position = names.iter().position(|name| name == opened);
                let index = position.and_then(|position| u32::try_from(position).ok());
                let index = index.ok_or_else(|| RoleMapError::Unknown(role.name.clone(), opened.clone()))?;
                let name = Padded::new(opened.as_bytes()).ok_or_else(|| RoleMapError::Name(opened.clone()))?;
                grants.extend(role.secrets.iter().map(|secret| Grant { secret: secret.clone(), name, role: index }));
            }
        }
        let is_opened = |index: usize| grants.iter().any(|grant| u32::try_from(index) == Ok(grant.role));
        let unopened = names.iter().enumerate().filter(|(index, _)| !is_opened(*index));
        let without_secret = unopened.map(|(_, name)| name.clone()).collect();
        Ok(Self { names, grants, without_secret })
    }

    /// The names of all roles, in the order in which they were defined.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The role that `password` opens for `user`. Every secret is compared in constant time and none is skipped, so that
    /// an unknown role and a wrong secret take the same time and give the same answer.
    #[must_use]
    pub fn admit(&self, user: &[u8], password: &[u8]) -> Option<&str> {
        let presented = decode(password);
        let well_formed = Choice::from(u8::from(presented.is_some()));
        let presented = presented.unwrap_or_default();
        let user = Padded::of_user(user);
        let role = judge(&self.grants, |grant| {
            let hit = well_formed & grant.secret.0.ct_eq(presented.as_slice()) & user.is(&grant.name);
            (hit, grant.role)
        });
        self.names.get(usize::try_from(role?).ok()?).map(String::as_str)
    }

    /// Whether another map says the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |(one, two): (&Grant, &Grant)| {
            one.role == two.role
                && bool::from(one.name.0.ct_eq(&two.name.0) & one.secret.0.ct_eq(two.secret.0.as_slice()))
        };
        self.names == other.names
            && self.grants.len() == other.grants.len()
            && self.grants.iter().zip(&other.grants).all(same)
    }

    /// Whether `user` is a role that no secret opens. To ask takes the same time for all other names.
    #[must_use]
    pub fn is_without_secret(&self, user: &[u8]) -> bool {
        self.without_secret.iter().any(|name| name.as_bytes() == user)
    }
}

/// Asks about every grant, whatever the answers were before, and gives the role of the last that is a hit.
fn judge<G>(grants: &[G], mut is_hit: impl FnMut(&G) -> Hit) -> Option<u32> {
    let mut any = Choice::from(0);
    let mut role = u32::MAX;
    for grant in grants {
        let (hit, opened) = is_hit(grant);
        role.conditional_assign(&opened, hit);
        any |= hit;
    }
    bool::from(any).then_some(role)
}

/// Whether a grant is a hit, and the role that it opens.
type Hit = (Choice, u32);

fn check(roles: &[Role]) -> Result<(), RoleMapError> {
    for (index, role) in roles.iter().enumerate() {
        if role.name.is_empty() || Padded::new(role.name.as_bytes()).is_none() {
            return Err(RoleMapError::Name(role.name.clone()));
        }
        if role.secrets.len() > MAX_SECRETS {
            return Err(RoleMapError::Secrets(role.name.clone(), role.secrets.len()));
        }
        for other in roles.iter().skip(index + 1) {
            if other.name == role.name {
                return Err(RoleMapError::Repeated(role.name.clone()));
            }
            if role.secrets.iter().any(|one| other.secrets.iter().any(|two| one.0.ct_eq(two.0.as_slice()).into())) {
                return Err(RoleMapError::SharedSecret(role.name.clone(), other.name.clone()));
            }
        }
    }
    Ok(())
}

/// A name in a field of fixed length, so that comparing takes the same time for every name.
#[derive(Clone, Copy, Debug)]
struct Padded([u8; MAX_NAME + 1]);

/// The name of a client, which may be none that a role can have.
#[derive(Clone, Copy)]
struct User {
    name: Padded,
    possible: Choice,
}

impl User {
    fn is(&self, name: &Padded) -> Choice {
        self.possible & self.name.0.ct_eq(&name.0)
    }
}

impl Padded {
    fn of_user(user: &[u8]) -> User {
        let name = Self::new(user);
        User { possible: Choice::from(u8::from(name.is_some())), name: name.unwrap_or(Self([0; MAX_NAME + 1])) }
    }

    /// The name without what fills the field up.
    fn text(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn new(name: &[u8]) -> Option<Self> {
        if name.contains(&0) {
            return None;
        }
        let mut padded = [0; MAX_NAME + 1];
        padded.get_mut(..MAX_NAME)?.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self(padded))
    }
}

fn decode(text: &[u8]) -> Option<Zeroizing<[u8; SECRET]>> {
    let mut secret = Zeroizing::new([0; SECRET]);
    if text.len() != 2 * SECRET {
        return None;
    }
    for (byte, pair) in secret.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = *pair else { return None };
        let digit = |character: u8| char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = (digit(high)? << 4) | digit(low)?;
    }
    Some(secret)
}

fn is_placeholder(secret: &[u8; SECRET]) -> bool {
    let mut sorted = *secret;
    sorted.sort_unstable();
    let distinct = sorted.chunk_by(|a, b| a == b).count();
    let mut steps = secret.iter().zip(secret.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let first = steps.next();
    distinct <= FEW_DISTINCT || steps.all(|step| Some(step) == first)
}

#[cfg(test)]
mod tests;
