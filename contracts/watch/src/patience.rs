//! Workloads about which no quorum answers: asked again ever more rarely, and apart from the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_allowlist::BootInfo;

/// How many of them are asked about at a time. So many that all get their answer are a sign that the nodes were at fault.
pub(crate) const APART: usize = 50;

/// The longest pause between two questions about the same workload.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Who has been asked about in vain, and when to try again.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    unanswered: BTreeMap<Arc<BootInfo>, Pause>,
}

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Patience {
    /// Parts what is due into the workloads that nothing is known against, and those whose pause is over, at most
    /// [`APART`] of them. Those that are not due any more have nothing to wait for.
    pub(crate) fn part(&mut self, due: Vec<Arc<BootInfo>>, now: Instant) -> (Vec<Arc<BootInfo>>, Vec<Arc<BootInfo>>) {
        if self.unanswered.is_empty() {
            return (due, Vec::new());
        }
        let (mut apart, ordinary): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|boot| self.unanswered.contains_key(boot));
        let mut before = std::mem::take(&mut self.unanswered);
        self.unanswered = apart.iter().filter_map(|boot| before.remove_entry(boot)).collect();
        apart.retain(|boot| self.unanswered.get(boot).is_none_or(|pause| pause.until <= now));
        apart.truncate(APART);
        (ordinary, apart)
    }

    /// Notes which of the workloads that were asked about have no answer.
    pub(crate) fn note<'a>(
        &mut self,
        asked: impl ExactSizeIterator<Item = (&'a Arc<BootInfo>, bool)>,
        first: Duration,
        now: Instant,
    ) {
        let (count, mut answered) = (asked.len(), 0);
        for (boot, is_answered) in asked {
            if is_answered {
                answered += usize::from(self.unanswered.remove(boot).is_some());
                continue;
            }
            let pause = self.unanswered.entry(Arc::clone(boot)).or_insert(Pause { length: first / 2, until: now });
            pause.length = pause.length.saturating_mul(2).min(LONGEST_PAUSE.max(first));
            pause.until = now + pause.length;
        }
        if count == APART && answered == APART {
            self.unanswered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

    use super::*;

    const FIRST: Duration = Duration::from_millis(250);

    fn boots(count: u8) -> Vec<Arc<BootInfo>> {
        let boot = |number| BootInfo {
            app_id: AppId([number; 20]),
            compose_hash: ComposeHash([1; 32]),
            instance_id: InstanceId([2; 20]),
            device_id: DeviceId([3; 32]),
            mr_aggregated: [4; 32],
            mr_system: [5; 32],
            os_image_hash: OsImageHash([6; 32]),
            tcb_status: String::new(),
            advisory_ids: Vec::new(),
        };
        (0..count).map(|number| Arc::new(boot(number))).collect()
    }

    fn note(patience: &mut Patience, boots: &[Arc<BootInfo>], answered: bool, now: Instant) {
        patience.note(boots.iter().map(|boot| (boot, answered)), FIRST, now);
    }

    #[test]
    fn who_gets_no_answer_is_asked_about_apart_and_ever_more_rarely() {
        let (mut patience, all, mut now) = (Patience::default(), boots(3), Instant::now());
        note(&mut patience, &all[..1], false, now);
        for pause in [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000] {
            let early = now + Duration::from_millis(pause - 1);
            assert_eq!(patience.part(all.clone(), early), (all[1..].to_vec(), vec![]), "after {pause} ms");
            now += Duration::from_millis(pause);
            assert_eq!(patience.part(all.clone(), now), (all[1..].to_vec(), all[..1].to_vec()));
            note(&mut patience, &all[..1], false, now);
        }
        note(&mut patience, &all[..1], true, now);
        assert_eq!(patience.part(all.clone(), now), (all, vec![]));
    }

    #[test]
    fn after_an_outage_the_crowd_is_no_longer_asked_about_apart() {
        let (mut patience, all, now) = (Patience::default(), boots(200), Instant::now());
        note(&mut patience, &all, false, now);
        let (ordinary, apart) = patience.part(all.clone(), now + FIRST);
        assert_eq!((ordinary.len(), apart.len()), (0, APART));
        note(&mut patience, &apart, true, now + FIRST);
        assert_eq!(patience.part(all.clone(), now + FIRST), (all, vec![]));
    }

    #[test]
    fn what_is_not_due_any_more_is_not_remembered() {
        let (mut patience, all, now) = (Patience::default(), boots(2), Instant::now());
        note(&mut patience, &all, false, now);
        drop(patience.part(all[..1].to_vec(), now));
        assert_eq!(patience.unanswered.len(), 1);
    }
}
