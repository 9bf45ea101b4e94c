use proptest::prelude::*;

use super::*;

fn reconciled(writes: &[(u64, Fate)], found: &[u64]) -> Ledger {
    let mut book = Book::default();
    writes.iter().for_each(|(number, fate)| book.note(*number, *fate));
    let mut ledger = Ledger::default();
    book.reconcile("a", found.iter().copied(), &mut ledger);
    ledger
}

#[test]
fn what_was_acknowledged_has_to_be_there_once() {
    let writes = [(1, Fate::Acknowledged), (2, Fate::Acknowledged), (3, Fate::Acknowledged)];
    assert!(reconciled(&writes, &[1, 2, 3]).is_sound());
    let ledger = reconciled(&writes, &[1, 3, 3]);
    assert_eq!((ledger.lost, ledger.twice, ledger.acknowledged), (1, 1, 3));
    assert_eq!(ledger.examples, ["a/2 lost", "a/3 twice"]);
    assert!(!ledger.is_sound());
}

#[test]
fn what_was_refused_must_not_be_there() {
    assert!(reconciled(&[(1, Fate::Refused)], &[]).is_sound());
    let ledger = reconciled(&[(1, Fate::Refused)], &[1, 9]);
    assert_eq!((ledger.failed, ledger.unexpected), (1, 2), "and neither what nobody wrote");
}

#[test]
fn what_nobody_knows_may_be_either_but_not_both() {
    let writes = [(1, Fate::Unknown), (2, Fate::Unknown)];
    let ledger = reconciled(&writes, &[2]);
    assert!(ledger.is_sound());
    assert_eq!((ledger.unknown, ledger.unknown_found), (2, 1));
    assert_eq!(reconciled(&writes, &[2, 2]).twice, 1);
}

#[test]
fn rows_that_could_not_be_read_prove_nothing() {
    let mut book = Book::default();
    book.note(1, Fate::Acknowledged);
    let mut ledger = Ledger::default();
    book.unread("a", "no session", &mut ledger);
    assert!(!ledger.is_sound());
    assert_eq!((ledger.acknowledged, ledger.lost), (1, 0));
}

proptest! {
    /// Whatever happened, each write is counted once and each row is accounted for.
    #[test]
    fn nothing_is_counted_twice(fates in prop::collection::vec(0..3_u8, 0..50), found in prop::collection::vec(0..60_u64, 0..80)) {
        let fates = fates.iter().map(|fate| [Fate::Acknowledged, Fate::Refused, Fate::Unknown][usize::from(*fate)]);
        let writes: Vec<(u64, Fate)> = (0..).zip(fates).collect();
        let ledger = reconciled(&writes, &found);
        let all = u64::try_from(writes.len()).unwrap();
        prop_assert_eq!(ledger.acknowledged + ledger.failed + ledger.unknown, all);
        let missing = writes.iter().filter(|(number, fate)| *fate == Fate::Acknowledged && !found.contains(number)).count();
        prop_assert_eq!(ledger.lost, u64::try_from(missing).unwrap());
    }
}
