//! How old a view may be before it stops being an authority.

/// The two ages at which trust in a view of the chain ends: first for newcomers, then for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshnessPolicy {
    /// Seconds after which nothing new is admitted.
    pub max_view_age: u64,
    /// Seconds after which new connections to what is admitted already are refused as well.
    pub view_grace: u64,
}

impl Default for FreshnessPolicy {
    fn default() -> Self {
        Self { max_view_age: 60, view_grace: 15 * 60 }
    }
}

impl FreshnessPolicy {
    /// How fresh knowledge is that was true at `as_of`.
    #[must_use]
    pub const fn judge(&self, as_of: u64, now: u64) -> Freshness {
        let age = now.saturating_sub(as_of);
        if age <= self.max_view_age {
            Freshness::Fresh
        } else if age <= self.view_grace {
            Freshness::Grace
        } else {
            Freshness::Stale
        }
    }
}

/// How far knowledge of the chain can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Good for everything.
    Fresh,
    /// Good only for what is admitted already.
    Grace,
    /// Good for nothing new.
    Stale,
}

impl Freshness {
    /// The word for metrics, logs and readiness.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Grace => "grace",
            Self::Stale => "stale",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_belong_to_the_better_side() {
        let policy = FreshnessPolicy { max_view_age: 60, view_grace: 900 };
        let ages = [(0, Freshness::Fresh), (60, Freshness::Fresh), (61, Freshness::Grace), (900, Freshness::Grace)];
        for (age, expected) in ages {
            assert_eq!(policy.judge(1_000, 1_000 + age), expected, "at the age of {age} s");
        }
        assert_eq!(policy.judge(1_000, 1_901), Freshness::Stale);
    }

    #[test]
    fn knowledge_from_a_moment_ahead_of_our_clock_has_no_age() {
        assert_eq!(FreshnessPolicy::default().judge(1_010, 1_000), Freshness::Fresh);
    }

    #[test]
    fn a_grace_shorter_than_the_age_never_revives_what_is_too_old() {
        let policy = FreshnessPolicy { max_view_age: 60, view_grace: 10 };
        assert_eq!(policy.judge(1_000, 1_061), Freshness::Stale);
    }
}
