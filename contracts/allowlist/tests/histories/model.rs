//! The slow model: it writes down what happened and answers every question by reading all of it again.

use std::sync::Arc;

use postern_allowlist::{
    Admission, Answer, BootInfo, Decision, Freshness, FreshnessPolicy, Head, Link, NotAdmitted, ViewRules,
};

enum Event {
    Followed { boot: Arc<BootInfo> },
    Forgotten { boot: Arc<BootInfo> },
    Head { head: Head, link: Link, as_of: u64 },
    Answered { boot: Arc<BootInfo>, answer: Answer, at: u64, admitted: bool },
}

/// Everything that happened.
pub(crate) struct Model {
    rules: ViewRules,
    policy: FreshnessPolicy,
    history: Vec<Event>,
}

impl Model {
    pub(crate) const fn new(rules: ViewRules, policy: FreshnessPolicy) -> Self {
        Self { rules, policy, history: Vec::new() }
    }

    pub(crate) fn follow(&mut self, boot: &Arc<BootInfo>) {
        if self.story(boot).is_none() {
            self.history.push(Event::Followed { boot: Arc::clone(boot) });
        }
    }

    pub(crate) fn forget(&mut self, boot: &Arc<BootInfo>) {
        self.history.push(Event::Forgotten { boot: Arc::clone(boot) });
    }

    pub(crate) fn head(&mut self, head: Head, link: Link, at: u64) {
        if self.last_head().is_none_or(|(last, _)| last.block.hash != head.block.hash) {
            self.history.push(Event::Head { head, link, as_of: head.block.timestamp.min(at) });
        }
    }

    /// Takes an answer, and says what the new verdict is if it is the opposite of the last one.
    pub(crate) fn answer(
        &mut self,
        boot: &Arc<BootInfo>,
        answer: Answer,
        at: u64,
    ) -> Option<Result<Admission, NotAdmitted>> {
        let was = self.is_admitted(boot);
        self.history.push(Event::Answered { boot: Arc::clone(boot), answer, at, admitted: was });
        let verdict = self.verdict(boot, was, at);
        let is = match &verdict {
            Ok(_) => true,
            Err(NotAdmitted::Refused { .. }) => false,
            Err(_) => was,
        };
        let Some(Event::Answered { admitted, .. }) = self.history.last_mut() else { unreachable!("just written") };
        *admitted = is;
        (is != was).then_some(verdict)
    }

    pub(crate) fn is_admitted(&self, boot: &BootInfo) -> bool {
        let answers = self.story(boot).unwrap_or(&[]).iter().rev();
        answers
            .filter_map(|event| match event {
                Event::Answered { boot: of, admitted, .. } if **of == *boot => Some(*admitted),
                _ => None,
            })
            .next()
            .unwrap_or(false)
    }

    pub(crate) fn is_due(&self, boot: &BootInfo, now: u64) -> bool {
        let (Some(story), Some((head, _))) = (self.story(boot), self.last_head()) else { return false };
        let Some((position, answer, at)) = last_answer(story, boot) else { return true };
        let allowed_but_not_admitted = answer.latest == Decision::Allowed && !self.is_admitted(boot);
        self.doubted_since(boot, position).is_some()
            || (allowed_but_not_admitted && answer.block != head.block)
            || now >= at + self.rules.sweep_after(boot)
    }

    pub(crate) fn verdict(&self, boot: &BootInfo, already: bool, now: u64) -> Result<Admission, NotAdmitted> {
        let Some((_, head_as_of)) = self.last_head() else { return Err(NotAdmitted::NoView) };
        let Some(story) = self.story(boot) else { return Err(NotAdmitted::NotEvaluated) };
        let Some((position, answer, at)) = last_answer(story, boot) else {
            return Err(self.unanswered(head_as_of, now));
        };
        let block = answer.block;
        if let Decision::Refused(refusal) = &answer.latest {
            return Err(NotAdmitted::Refused { refusal: refusal.clone(), block });
        }
        if !already && !self.is_deep_enough(boot, answer) {
            return Err(NotAdmitted::Unconfirmed { block });
        }
        let doubt = self.doubted_since(boot, position);
        let as_of = doubt.unwrap_or(head_as_of).min(at + self.rules.sweep_interval);
        match (self.policy.judge(as_of, now), already, doubt) {
            (Freshness::Fresh, false, Some(_)) => Err(NotAdmitted::AwaitingAnswer),
            (Freshness::Fresh, false, None) => Ok(Admission { block, expires: as_of + self.policy.max_view_age }),
            (Freshness::Fresh | Freshness::Grace, true, _) => {
                Ok(Admission { block, expires: as_of + self.policy.view_grace })
            }
            _ => Err(NotAdmitted::ViewTooOld { age: now.saturating_sub(as_of) }),
        }
    }

    /// Why a workload is not admitted that the contract has never answered about.
    const fn unanswered(&self, head_as_of: u64, now: u64) -> NotAdmitted {
        match self.policy.judge(head_as_of, now) {
            Freshness::Fresh => NotAdmitted::NotEvaluated,
            Freshness::Grace | Freshness::Stale => NotAdmitted::ViewTooOld { age: now.saturating_sub(head_as_of) },
        }
    }

    /// Whether an allowance admits somebody anew: it held at the confirmed block, and no head above that was heard to refuse.
    /// A refusal on a chain that was higher than the present one was at its height at most.
    fn is_deep_enough(&self, boot: &BootInfo, allowance: &Answer) -> bool {
        let story = self.story(boot).unwrap_or(&[]);
        let lowest_head_since = |position: usize| {
            let heads = story[position..].iter().filter_map(|event| match event {
                Event::Head { head, .. } => Some(head.block.number),
                _ => None,
            });
            heads.min().unwrap_or(u64::MAX)
        };
        let mut refusals = story.iter().enumerate().filter_map(|(position, event)| match event {
            Event::Answered { boot: of, answer, .. } if **of == *boot && answer.latest != Decision::Allowed => {
                Some(answer.block.number.min(lowest_head_since(position)))
            }
            _ => None,
        });
        let confirmed = self.history.iter().rev().find_map(|event| match event {
            Event::Head { head, .. } if head.block == allowance.block => Some(head.confirmed),
            _ => None,
        });
        allowance.confirmed == Some(Decision::Allowed) && refusals.next_back().is_none_or(|at| confirmed >= Some(at))
    }

    /// What happened since somebody began to ask about a workload, if it is still followed.
    fn story(&self, boot: &BootInfo) -> Option<&[Event]> {
        let start = self.history.iter().rposition(|event| match event {
            Event::Followed { boot: of } | Event::Forgotten { boot: of } => **of == *boot,
            _ => false,
        })?;
        matches!(&self.history[start], Event::Followed { .. }).then(|| &self.history[start..])
    }

    fn last_head(&self) -> Option<(Head, u64)> {
        self.history.iter().rev().find_map(|event| match event {
            Event::Head { head, as_of, .. } => Some((*head, *as_of)),
            _ => None,
        })
    }

    /// Until when the answer at `position` of a workload's story was known to hold, if it is not known to hold now.
    fn doubted_since(&self, boot: &BootInfo, position: usize) -> Option<u64> {
        let story = self.story(boot)?;
        let start = self.history.len() - story.len();
        let mut before = self.history[..start].iter().rev().find_map(|event| match event {
            Event::Head { head, as_of, .. } => Some((*head, *as_of)),
            _ => None,
        });
        // How high the confirmed block must be before it has passed the last thing that happened.
        let mut changed_at = 0;
        let mut answered = false;
        for (index, event) in story.iter().enumerate() {
            match event {
                Event::Head { head, link, as_of } => {
                    let height = head.block.number;
                    let touched = before.is_some_and(|(before, _)| match link {
                        Link::Extends(apps) => height <= before.block.number || apps.contains(&boot.app_id),
                        Link::ExtendsWithNewRules | Link::Replaces => true,
                    });
                    if let Some((before, before_as_of)) = before
                        && index > position
                        && (touched || (before.confirmed < changed_at && before.confirmed != head.confirmed))
                    {
                        return Some(before_as_of);
                    }
                    if touched {
                        changed_at = height;
                    }
                    before = Some((*head, *as_of));
                }
                Event::Answered { boot: of, answer, .. } if **of == *boot && !answered => {
                    answered = true;
                    changed_at = changed_at.max(answer.block.number);
                }
                _ => {}
            }
        }
        None
    }
}

fn last_answer<'a>(story: &'a [Event], boot: &BootInfo) -> Option<(usize, &'a Answer, u64)> {
    story.iter().enumerate().rev().find_map(|(position, event)| match event {
        Event::Answered { boot: of, answer, at, .. } if **of == *boot => Some((position, answer, *at)),
        _ => None,
    })
}
