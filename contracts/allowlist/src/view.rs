//! What is known of the chain: its head, and what it answered about each workload.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_identity::AppId;
use rpds::HashTrieMapSync;

use crate::admit::by_chain;
use crate::subject::{Due, Subject};
use crate::{Admission, Answer, Block, BootInfo, Freshness, FreshnessPolicy, NotAdmitted};

/// Seconds that a workload is followed at least after somebody asked about it, unless room is needed.
const KEPT: u64 = 10 * 60;
/// Seconds after which a workload that nobody asked about makes room for others. Whoever depends on one asks each minute.
const DISPENSABLE_AFTER: u64 = 3 * 60;

/// How a view follows its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewRules {
    /// Seconds within which an answer is asked for again although nothing was heard from its contract. Each workload's turn
    /// comes at its own moment in the second half of that time, so that what was answered together is not asked together.
    pub sweep_interval: u64,
    /// Seconds by which a head may be ahead of our clock.
    pub max_lead: u64,
}

impl Default for ViewRules {
    fn default() -> Self {
        Self { sweep_interval: 5 * 60, max_lead: 30 }
    }
}

impl ViewRules {
    /// Seconds after an answer at which it is a workload's turn to be swept: by its instance id, which is a digest, between
    /// half and all of [`ViewRules::sweep_interval`].
    #[must_use]
    pub fn sweep_after(&self, boot: &BootInfo) -> u64 {
        let digest = boot.instance_id.as_bytes().first_chunk().map_or(0, |head: &[u8; 8]| u64::from_be_bytes(*head));
        self.sweep_interval - digest % (self.sweep_interval / 2 + 1)
    }
}

/// A view of one chain. Cheap to clone, and to change while there are clones: they share what did not change since.
#[derive(Debug, Clone)]
pub struct View {
    rules: ViewRules,
    head: Option<Seen>,
    subjects: HashTrieMapSync<Arc<BootInfo>, Subject>,
}

/// A head, and how much of the chain is confirmed there.
///
/// An allowance admits somebody only if it holds at the head and at the confirmed block, and no head since that block has
/// refused. A refusal at the head counts at once, and nothing else ends an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The head.
    pub block: Block,
    /// The height of the confirmed block; 0 where none is known, as the first block is nobody's to change.
    pub confirmed: u64,
}

impl From<Block> for Head {
    /// A head that needs no confirmation.
    fn from(block: Block) -> Self {
        Self { block, confirmed: block.number }
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    block: Block,
    confirmed: u64,
    /// The moment for which this head speaks: its own time, or the time when it was seen if its clock is ahead of ours.
    as_of: u64,
}

/// How a new head follows the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It descends from it, and in between the logs concern only these apps.
    Extends(BTreeSet<AppId>),
    /// It descends from it, and in between a rule for all apps may have changed.
    ExtendsWithNewRules,
    /// It does not descend from it, or nobody knows.
    Replaces,
}

/// Why a head is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadRefused {
    /// Its time has not come.
    #[error("the block is {lead} s ahead of our clock")]
    FromTheFuture {
        /// By how many seconds.
        lead: u64,
    },
}

/// A verdict that turned into its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The workload.
    pub boot: Arc<BootInfo>,
    /// What is true from now on.
    pub verdict: Result<Admission, NotAdmitted>,
    /// The head at which the contract was asked.
    pub block: Block,
}

impl View {
    /// A view that knows nothing yet.
    #[must_use]
    pub fn new(rules: ViewRules) -> Self {
        Self { rules, head: None, subjects: HashTrieMapSync::default() }
    }

    /// Follows a workload from now on. Returns whether it is new.
    pub fn follow(&mut self, boot: &Arc<BootInfo>, now: u64) -> bool {
        if self.ask(boot, now) {
            return false;
        }
        self.subjects.insert_mut(Arc::clone(boot), Subject::new(now));
        true
    }

    /// Notes that somebody asks about a workload, so that it is followed further, in all clones of this view. Returns
    /// whether it is followed at all.
    pub fn ask(&self, boot: &BootInfo, now: u64) -> bool {
        let subject = self.subjects.get(boot);
        subject.inspect(|subject| subject.ask(now)).is_some()
    }

    /// Follows a workload no longer. Returns whether it was followed.
    pub fn forget(&mut self, boot: &BootInfo) -> bool {
        self.subjects.remove_mut(boot)
    }

    /// Forgets the workloads that nobody has asked about for longer than `view_grace`, after which an admission would not
    /// hold without the chain either, or for ten minutes if that is longer.
    pub fn forget_abandoned(&mut self, policy: &FreshnessPolicy, now: u64) {
        self.forget_idle(abandoned_after(policy), now);
    }

    /// Whether [`View::forget_abandoned`] would forget any.
    #[must_use]
    pub fn any_abandoned(&self, policy: &FreshnessPolicy, now: u64) -> bool {
        self.any_idle(abandoned_after(policy), now)
    }

    /// Forgets the workloads that nobody has asked about for three minutes, for the sake of newcomers.
    pub fn make_room(&mut self, now: u64) {
        self.forget_idle(DISPENSABLE_AFTER, now);
    }

    /// Takes a head that a quorum agrees on. The same head again changes nothing.
    ///
    /// # Errors
    /// [`HeadRefused`] if its time is too far ahead of `now`; the view then stays as it is.
    pub fn on_head(&mut self, head: impl Into<Head>, link: &Link, now: u64) -> Result<(), HeadRefused> {
        let Head { block, confirmed } = head.into();
        let lead = block.timestamp.saturating_sub(now);
        if lead > self.rules.max_lead {
            return Err(HeadRefused::FromTheFuture { lead });
        }
        let before = self.head;
        if before.is_some_and(|head| head.block.hash == block.hash) {
            return Ok(());
        }
        let seen = Seen { block, confirmed, as_of: block.timestamp.min(now) };
        self.head = Some(seen);
        if let Some(before) = before {
            self.doubt(&before, &seen, link);
            self.lower(block.number);
        }
        Ok(())
    }

    /// Takes the chain for confirmed up to this height, at the same head.
    pub fn on_confirmed(&mut self, confirmed: u64) {
        let Some(head) = self.head.filter(|head| head.confirmed != confirmed) else { return };
        self.head = Some(Seen { confirmed, ..head });
        self.update_where(|_, subject| subject.is_unsettled(head.confirmed), |_, subject| subject.doubt(head.as_of));
    }

    /// Takes what a quorum answered about a workload. Returns the chain's new verdict where it turned into its opposite.
    ///
    /// An answer for a workload that is not followed, or at another block than the head, is ignored.
    pub fn on_answer(&mut self, boot: &BootInfo, answer: Answer, policy: &FreshnessPolicy, now: u64) -> Option<Change> {
        let block = answer.block;
        let head = self.head.filter(|head| head.block.hash == block.hash)?;
        let was = self.update(boot, |subject| {
            subject.hear(answer, head.confirmed, now);
            subject.admitted
        })?;
        let verdict = by_chain(self.subject(boot)?, self, policy, was, now);
        let is = match &verdict {
            Ok(_) => true,
            Err(reason) if reason.is_the_chains_word() => false,
            Err(_) => was,
        };
        if is == was {
            return None;
        }
        self.update(boot, |subject| subject.admitted = is)?;
        let (boot, _) = self.subjects.get_key_value(boot)?;
        Some(Change { boot: Arc::clone(boot), verdict, block })
    }

    /// The workloads about which the contract should be asked at the head, the most urgent first.
    #[must_use]
    pub fn to_evaluate(&self, now: u64) -> Vec<Arc<BootInfo>> {
        let Some(head) = self.head() else { return Vec::new() };
        let mut due: Vec<(Due, u64, &Arc<BootInfo>)> = self
            .subjects
            .iter()
            .filter_map(|(boot, subject)| {
                let due = subject.due(head, || self.rules.sweep_after(boot), now)?;
                Some((due, subject.answered_at, boot))
            })
            .collect();
        due.sort();
        due.into_iter().map(|(_, _, boot)| Arc::clone(boot)).collect()
    }

    /// The head, once there is one.
    #[must_use]
    pub fn head(&self) -> Option<&Block> {
        self.head.as_ref().map(|head| &head.block)
    }

    /// How fresh the head is. Without one, nothing is.
    #[must_use]
    pub fn freshness(&self, policy: &FreshnessPolicy, now: u64) -> Freshness {
        self.head.map_or(Freshness::Stale, |head| policy.judge(head.as_of, now))
    }

    /// The apps whose contracts' logs matter.
    #[must_use]
    pub fn apps(&self) -> BTreeSet<AppId> {
        self.subjects.keys().map(|boot| boot.app_id).collect()
    }

    /// Whether a workload's last verdict was an admission.
    #[must_use]
    pub fn is_admitted(&self, boot: &BootInfo) -> bool {
        self.subject(boot).is_some_and(|subject| subject.admitted)
    }

    /// Whether the question about a workload has been answered, and nothing is known that may have changed the answer.
    #[must_use]
    pub fn is_settled(&self, boot: &BootInfo) -> bool {
        self.subject(boot).is_some_and(|subject| subject.answer.is_some() && subject.doubted.is_none())
    }

    /// Whether a workload is followed.
    #[must_use]
    pub fn follows(&self, boot: &BootInfo) -> bool {
        self.subjects.contains_key(boot)
    }

    /// How many workloads are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subjects.size()
    }

    /// Whether no workload is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// How the view follows its chain.
    #[must_use]
    pub const fn rules(&self) -> &ViewRules {
        &self.rules
    }

    pub(crate) fn subject(&self, boot: &BootInfo) -> Option<&Subject> {
        self.subjects.get(boot)
    }

    /// How old the head is, in seconds.
    pub(crate) fn age(&self, now: u64) -> u64 {
        self.head.map_or(u64::MAX, |head| now.saturating_sub(head.as_of))
    }

    /// Up to when what is known of a workload is known to hold.
    pub(crate) fn holds_until(&self, subject: &Subject) -> u64 {
        self.head.map_or(0, |head| subject.holds_until(head.as_of, self.rules.sweep_interval))
    }

    /// Marks the answers that the step from one head to the next may have changed.
    fn doubt(&mut self, before: &Seen, head: &Seen, link: &Link) {
        let height = head.block.number;
        let touches = |boot: &BootInfo| match link {
            // A head that claims to extend a higher one cannot be what it claims.
            Link::Extends(apps) => height <= before.block.number || apps.contains(&boot.app_id),
            Link::ExtendsWithNewRules | Link::Replaces => true,
        };
        // Until the confirmed block has passed a change, each step of it can change the answer.
        let confirms_more = before.confirmed != head.confirmed;
        let unsettled = |subject: &Subject| confirms_more && subject.is_unsettled(before.confirmed);
        self.update_where(
            |boot, subject| touches(boot) || unsettled(subject),
            |boot, subject| {
                subject.doubt(before.as_of);
                if touches(boot) {
                    subject.changed_at = height;
                }
            },
        );
    }

    /// Fits what is remembered of heads to one at `height`.
    fn lower(&mut self, height: u64) {
        self.update_where(|_, subject| subject.was_refused_above(height), |_, subject| subject.lower(height));
    }

    fn any_idle(&self, longer_than: u64, now: u64) -> bool {
        self.subjects.values().any(|subject| subject.idle(now) > longer_than)
    }

    fn forget_idle(&mut self, longer_than: u64, now: u64) {
        for boot in self.which(|_, subject| subject.idle(now) > longer_than) {
            self.subjects.remove_mut(&boot);
        }
    }

    /// The workloads for which something holds.
    fn which(&self, holds: impl Fn(&BootInfo, &Subject) -> bool) -> Vec<Arc<BootInfo>> {
        let which = self.subjects.iter().filter(|(boot, subject)| holds(boot, subject));
        which.map(|(boot, _)| Arc::clone(boot)).collect()
    }

    /// Changes those for which something holds; what is known of the others stays shared with clones.
    fn update_where(&mut self, holds: impl Fn(&BootInfo, &Subject) -> bool, change: impl Fn(&BootInfo, &mut Subject)) {
        for boot in self.which(holds) {
            if let Some(subject) = self.subjects.get_mut(&boot) {
                change(&boot, subject);
            }
        }
    }

    fn update<T>(&mut self, boot: &BootInfo, change: impl FnOnce(&mut Subject) -> T) -> Option<T> {
        self.subjects.get_mut(boot).map(change)
    }
}

fn abandoned_after(policy: &FreshnessPolicy) -> u64 {
    policy.view_grace.max(KEPT)
}

#[cfg(test)]
mod tests;
