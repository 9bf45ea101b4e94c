//! One tenant's share of the load: what is due and waits for a session, and what is known of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::client::Door;
use crate::ledger::{Book, Fate};
use crate::result::Ledger;
use crate::scenario::Work;
use crate::work::Piece;

/// A piece of work that is due, or was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    pub(crate) piece: Piece,
}

/// One tenant's share of the load.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) door: Door,
    /// What it asks.
    pub(crate) work: Work,
    waiting: Mutex<VecDeque<Due>>,
    arrived: Notify,
    open: AtomicUsize,
    /// When a session last ended against our will.
    cut: Mutex<Option<Instant>>,
    book: Mutex<Book>,
}

impl Lane {
    pub(crate) fn new(door: Door, work: Work) -> Self {
        Self {
            door,
            work,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            open: AtomicUsize::new(0),
            cut: Mutex::default(),
            book: Mutex::default(),
        }
    }

    /// Adds a piece of work.
    pub(super) fn push(&self, due: Due) {
        lock(&self.waiting).push_back(due);
        self.arrived.notify_one();
    }

    /// Waits for a piece of work.
    pub(super) async fn next(&self) -> Due {
        loop {
            let arrived = self.arrived.notified();
            if let Some(due) = lock(&self.waiting).pop_front() {
                return due;
            }
            arrived.await;
        }
    }

    /// Takes the pieces of work out that were due before a moment.
    pub(super) fn expired(&self, before: Instant) -> Vec<Due> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.iter().take_while(|due| due.at < before).count();
        waiting.drain(..count).collect()
    }

    /// How many sessions are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// When a session last ended against our will.
    pub(crate) fn cut(&self) -> Option<Instant> {
        *lock(&self.cut)
    }

    pub(super) fn note_open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_end(&self, by_us: bool) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if !by_us {
            *lock(&self.cut) = Some(Instant::now());
        }
    }

    pub(super) fn note_write(&self, number: u64, fate: Fate) {
        lock(&self.book).note(number, fate);
    }

    pub(super) fn reconcile(&self, rows: Result<Vec<u64>, String>, ledger: &mut Ledger) {
        let book = lock(&self.book);
        match rows {
            Ok(rows) => book.reconcile(&self.door.tenant, rows, ledger),
            Err(_) if book.is_empty() => {}
            Err(why) => book.unread(&self.door.tenant, &why, ledger),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
