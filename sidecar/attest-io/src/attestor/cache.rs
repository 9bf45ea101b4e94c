//! Good verdicts, by certificate.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_attest::Appraisal;

/// How many verdicts are kept; the oldest make room. One has about 1 KiB.
pub(super) const CAPACITY: usize = 4096;

/// The longest that a verdict stands, in seconds.
pub(super) const LONGEST: u64 = 3600;

#[derive(Default)]
pub(super) struct Cache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    verdicts: HashMap<[u8; 32], Entry>,
    /// In the order of insertion. Every key of `verdicts` stands here once.
    order: VecDeque<[u8; 32]>,
    generation: u64,
}

struct Entry {
    appraisal: Arc<Appraisal>,
    until: u64,
}

impl Cache {
    pub(super) fn get(&self, fingerprint: &[u8; 32], now: u64) -> Option<Arc<Appraisal>> {
        let entries = self.entries();
        let entry = entries.verdicts.get(fingerprint)?;
        (now < entry.until).then(|| Arc::clone(&entry.appraisal))
    }

    /// What an appraisal has to name when it is inserted; it changes whenever the cache is cleared.
    pub(super) fn generation(&self) -> u64 {
        self.entries().generation
    }

    /// Keeps a verdict, unless the cache was cleared since its appraisal began.
    pub(super) fn insert(&self, generation: u64, appraisal: &Arc<Appraisal>, now: u64) {
        let mut entries = self.entries();
        if entries.generation != generation {
            return;
        }
        let until = appraisal.valid_until.min(now.saturating_add(LONGEST));
        let entry = Entry { appraisal: Arc::clone(appraisal), until };
        if entries.verdicts.insert(appraisal.fingerprint, entry).is_none() {
            entries.order.push_back(appraisal.fingerprint);
        }
        while entries.verdicts.len() > CAPACITY
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.verdicts.remove(&oldest);
        }
        metrics::gauge!("attest_cache_entries").set(u32::try_from(entries.verdicts.len()).map_or(f64::MAX, f64::from));
    }

    pub(super) fn clear(&self) {
        let mut entries = self.entries();
        let generation = entries.generation.wrapping_add(1);
        *entries = Entries { generation, ..Entries::default() };
    }

    /// No operation leaves the entries half changed, so that a panic elsewhere does not spoil them.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_attest::AppIdentity;
    use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, Register};

    fn appraisal(number: usize, valid_until: u64) -> Arc<Appraisal> {
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
        Arc::new(Appraisal {
            identity: AppIdentity {
                app_id: AppId([0; 20]),
                compose_hash: ComposeHash([0; 32]),
                instance_id: InstanceId([0; 20]),
                os_image_hash: None,
                key_provider: Vec::new(),
            },
            device_id: DeviceId([0; 32]),
            mrtd: Register([0; 48]),
            rtmr: [Register([0; 48]); 4],
            mr_aggregated: [0; 32],
            mr_system: [0; 32],
            tcb_status: String::new(),
            advisory_ids: Vec::new(),
            fingerprint,
            valid_until,
        })
    }

    #[test]
    fn a_verdict_stands_until_the_first_of_its_ends() {
        let cache = Cache::default();
        let (short, long) = (appraisal(1, 1_100), appraisal(2, u64::MAX));
        cache.insert(0, &short, 1_000);
        cache.insert(0, &long, 1_000);
        assert!(cache.get(&short.fingerprint, 1_099).is_some());
        assert!(cache.get(&short.fingerprint, 1_100).is_none());
        assert!(cache.get(&long.fingerprint, 1_000 + LONGEST - 1).is_some());
        assert!(cache.get(&long.fingerprint, 1_000 + LONGEST).is_none());
    }

    #[test]
    fn the_oldest_make_room() {
        let cache = Cache::default();
        let all: Vec<_> = (0..=CAPACITY).map(|number| appraisal(number, u64::MAX)).collect();
        all.iter().for_each(|appraisal| cache.insert(0, appraisal, 0));
        assert!(cache.get(&all[0].fingerprint, 0).is_none());
        assert!(cache.get(&all[1].fingerprint, 0).is_some());
        assert!(cache.get(&all[CAPACITY].fingerprint, 0).is_some());
        let entries = cache.entries();
        assert_eq!((entries.verdicts.len(), entries.order.len()), (CAPACITY, CAPACITY));
    }

    #[test]
    fn a_verdict_inserted_twice_takes_one_place() {
        let cache = Cache::default();
        for now in 0..10 {
            cache.insert(0, &appraisal(1, u64::MAX), now);
        }
        assert_eq!(cache.entries().order.len(), 1);
    }

    #[test]
    fn what_was_appraised_before_a_clearing_does_not_come_in_after_it() {
        let cache = Cache::default();
        let generation = cache.generation();
        cache.insert(generation, &appraisal(1, u64::MAX), 0);
        cache.clear();
        assert!(cache.get(&appraisal(1, 0).fingerprint, 0).is_none());
        cache.insert(generation, &appraisal(1, u64::MAX), 0);
        assert!(cache.get(&appraisal(1, 0).fingerprint, 0).is_none());
        cache.insert(cache.generation(), &appraisal(1, u64::MAX), 0);
        assert!(cache.get(&appraisal(1, 0).fingerprint, 0).is_some());
    }
}
