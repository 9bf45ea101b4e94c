//! The scenarios that come with the program.

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// By which name it is run.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),+]
    };
}

/// All of them, by name.
pub const SHIPPED: &[Shipped] = shipped![
    "bulk",
    "churn",
    "faults",
    "fleet",
    "generator",
    "handshakes",
    "idle",
    "mixed",
    "noisy-neighbour",
    "pool",
    "revocation",
    "smoke",
    "soak",
];

impl Shipped {
    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        SHIPPED.iter().copied().find(|shipped| shipped.name == name)
    }
}
