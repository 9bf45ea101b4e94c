//! From what endpoints report to a published view.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use alloy::primitives::Address;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use postern_allowlist::{Answer, Block, BootInfo, Decision, Freshness, Head, HeadRefused, Link};
use tokio::sync::watch;

use crate::ask::{Question, ask};
use crate::complaints::Complaints;
use crate::config::Confirmed;
use crate::endpoint::{Endpoint, Header};
use crate::lineage::{Lineage, Untraceable};
use crate::patience::Patience;
use crate::poll::Reports;
use crate::proof::{self, Proven};
use crate::touched::{Sources, Touched};
use crate::watch::{Change, Shared};
use crate::{agree, telemetry};

/// How many workloads are asked about before the head is looked at again.
const ROUND: usize = 400;

/// The reports ended, because the tasks that make them did.
#[derive(Debug, thiserror::Error)]
#[error("no endpoint is being polled any more")]
pub(crate) struct NoReports;

/// Why a head that was agreed on is not taken now. It will be tried again.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Refused(#[from] HeadRefused),
    #[error(transparent)]
    Untraceable(#[from] Untraceable),
}

impl NotTaken {
    const fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Untraceable(_) => "untraceable",
        }
    }
}

/// The one task that changes heads and answers.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    reports: watch::Receiver<Reports>,
    lineage: Lineage,
    patience: Patience,
    complaints: Complaints,
    /// The head of the view, once one was taken.
    head: Option<Header>,
    /// The last block that a quorum called safe, where that is asked for.
    safe: Option<Header>,
    /// The endpoints that show the head of the view.
    nodes: Vec<Arc<Endpoint>>,
    /// When the head of the view was first seen.
    seen: Instant,
    freshness: Freshness,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, reports: watch::Receiver<Reports>) -> Self {
        Self {
            shared,
            reports,
            lineage: Lineage::default(),
            patience: Patience::default(),
            complaints: Complaints::default(),
            head: None,
            safe: None,
            nodes: Vec::new(),
            seen: Instant::now(),
            freshness: Freshness::Stale,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Infallible, NoReports> {
        let mut more_is_due = false;
        loop {
            if !more_is_due {
                self.wait().await?;
            }
            if let Err(error) = self.take_head().await
                && self.complaints.should_log(error.label(), Instant::now())
            {
                tracing::warn!(%error, "a head of the chain is not taken");
            }
            more_is_due = self.evaluate().await;
            self.observe();
        }
    }

    /// Waits for a report, for somebody new to ask about, or for the next regular look.
    async fn wait(&mut self) -> Result<(), NoReports> {
        tokio::select! {
            changed = self.reports.changed() => changed.map_err(|_| NoReports)?,
            () = self.shared.wake.notified() => {}
            () = tokio::time::sleep(self.shared.config.poll_interval) => {}
        }
        Ok(())
    }

    /// Brings the view to the head that a quorum agrees on, if there is one.
    async fn take_head(&mut self) -> Result<(), NotTaken> {
        let reports = self.reports.borrow_and_update().clone();
        let heads: Vec<_> = reports.iter().map(|report| report.map(|report| report.head)).collect();
        let endpoints = &self.shared.endpoints;
        let Some(agreed) = agree::head(endpoints, &heads, self.shared.config.quorum).await else { return Ok(()) };
        let nodes: Vec<_> = agreed.agreeing.iter().filter_map(|&at| endpoints.get(at).cloned()).collect();
        let before = self.shared.view().head().copied();
        let head = agreed.header;
        if before.is_some_and(|before| before.hash == head.block.hash) {
            (self.nodes, self.head) = (nodes, Some(head));
            self.confirm(&head, &reports).await;
            return Ok(());
        }
        if let Some(before) = &before
            && head.block.number < before.number
            && agree::anyone_still_has(endpoints, &heads, before).await
        {
            return Ok(());
        }
        let seen = Instant::now();
        let link = self.link(head, before.as_ref(), &nodes).await?;
        self.find_safe(&reports, &link).await;
        let confirmed = self.confirmed(&head).map_or(0, |confirmed| confirmed.block.number);
        let now = self.shared.now();
        self.shared.change(|view| view.on_head(Head { block: head.block, confirmed }, &link, now))?;
        if link == Link::Replaces && before.is_some() {
            metrics::counter!(telemetry::REPLACED).increment(1);
            tracing::warn!(head = %head.block, "the chain was replaced: everything is asked again");
        }
        (self.nodes, self.head, self.seen) = (nodes, Some(head), seen);
        Ok(())
    }

    /// Takes note of what has become safe since the head was taken: endpoints may learn the one before the other.
    async fn confirm(&mut self, head: &Header, reports: &Reports) {
        let before = self.safe;
        self.find_safe(reports, &Link::Extends(BTreeSet::new())).await;
        if self.safe != before
            && let Some(confirmed) = self.confirmed(head)
        {
            self.shared.change(|view| view.on_confirmed(confirmed.block.number));
        }
    }

    /// Finds the highest block that a quorum calls safe, where that is asked for. Without one, the last one stays.
    async fn find_safe(&mut self, reports: &Reports, link: &Link) {
        if self.shared.config.confirmed != Confirmed::Safe {
            return;
        }
        if *link == Link::Replaces {
            self.safe = None;
        }
        let safe: Vec<_> = reports.iter().map(|report| report.and_then(|report| report.safe)).collect();
        let agreed = agree::head(&self.shared.endpoints, &safe, self.shared.config.quorum).await;
        self.safe = agreed.map(|agreed| agreed.header).or(self.safe);
    }

    /// The block that is confirmed at a head, if one is.
    fn confirmed(&self, head: &Header) -> Option<Header> {
        match self.shared.config.confirmed {
            Confirmed::Depth(0) => Some(*head),
            Confirmed::Depth(depth) => self.lineage.at(head.block.number.saturating_sub(depth)).copied(),
            Confirmed::Safe => self.safe.filter(|safe| safe.block.number <= head.block.number),
        }
    }

    /// How a head follows the one before: whether it descends from it, and who has logged something in between.
    async fn link(
        &mut self,
        head: Header,
        before: Option<&Block>,
        nodes: &[Arc<Endpoint>],
    ) -> Result<Link, Untraceable> {
        let depth = self.shared.config.confirmed.depth();
        let descends = self.lineage.follow(head, before, depth, nodes).await?;
        let Some(before) = before.filter(|_| descends) else { return Ok(Link::Replaces) };
        let apps = self.shared.view().apps();
        if apps.is_empty() {
            return Ok(Link::Extends(apps));
        }
        let contracts: Vec<Address> = apps.iter().map(|app| Address::from(app.0)).collect();
        let config = &self.shared.config;
        let sources = Sources { kms: config.kms, apps: &contracts, others: &config.log_contracts };
        let blocks = self.lineage.between(before.number, head.block.number);
        Ok(match touched(nodes, config.quorum, &blocks, &sources).await {
            Some(Touched { everybody: false, apps }) => Link::Extends(apps),
            // Without the logs of a quorum, anything may have changed.
            Some(_) | None => Link::ExtendsWithNewRules,
        })
    }

    /// Asks about the workloads that are due. Returns whether more are, and can be asked about at once.
    async fn evaluate(&mut self) -> bool {
        let view = self.shared.view();
        let is_head = |head: &Header| view.head().is_some_and(|block| block.hash == head.block.hash);
        let Some(head) = self.head.filter(is_head) else { return false };
        let (mut due, apart) = self.patience.part(view.to_evaluate(self.shared.now()), Instant::now());
        let more = due.len() > ROUND;
        due.truncate(ROUND);
        if self.nodes.len() < self.shared.config.quorum {
            return false;
        }
        let answered = self.ask_about(&due, head).await;
        // Nobody waits for those that may take long.
        if !more {
            self.ask_about(&apart, head).await;
        }
        more && answered
    }

    /// Asks about workloads and takes the answers. Returns whether there were any.
    async fn ask_about(&mut self, due: &[Arc<BootInfo>], head: Header) -> bool {
        if due.is_empty() {
            return false;
        }
        let started = Instant::now();
        let answers = self.answers(due, head).await;
        metrics::histogram!(telemetry::EVALUATION).record(started.elapsed().as_secs_f64());
        let asked = due.iter().zip(answers.iter().map(Option::is_some));
        self.patience.note(asked, self.shared.config.poll_interval, Instant::now());
        let answered = answers.iter().any(Option::is_some);
        self.take_answers(due, answers, head.block);
        answered
    }

    async fn answers(&self, due: &[Arc<BootInfo>], head: Header) -> Vec<Option<Answer>> {
        let confirmed = self.confirmed(&head);
        let apart = confirmed.filter(|confirmed| confirmed.block.hash != head.block.hash);
        let blocks = [head].into_iter().chain(apart);
        let questions = blocks.flat_map(|at| due.iter().map(move |boot| Question { boot: Arc::clone(boot), at }));
        let mut decisions = self.decisions(questions.collect()).await.into_iter();
        let latest: Vec<Option<Decision>> = decisions.by_ref().take(due.len()).collect();
        let deep: Vec<Option<Decision>> = match (apart, confirmed) {
            (Some(_), _) => decisions.collect(),
            (None, Some(_)) => latest.clone(),
            (None, None) => vec![None; due.len()],
        };
        let answer = |(latest, deep): (Option<Decision>, Option<Decision>)| {
            let latest = latest?;
            // A refusal at the head needs no second word; an allowance whose second word is missing is asked for again.
            let is_whole = latest != Decision::Allowed || confirmed.is_none() || deep.is_some();
            is_whole.then_some(Answer { block: head.block, latest, confirmed: deep })
        };
        latest.into_iter().zip(deep).map(answer).collect()
    }

    /// Has the decisions proven where code is pinned, and asks for the others.
    async fn decisions(&self, questions: Vec<Question>) -> Vec<Option<Decision>> {
        let config = &self.shared.config;
        let answers = if config.pins.is_empty() {
            vec![Proven::OtherCode; questions.len()]
        } else {
            proof::prove(&self.nodes, config.kms, &config.pins, &questions).await
        };
        let open: Vec<Question> = questions
            .into_iter()
            .zip(&answers)
            .filter_map(|(question, answer)| (*answer == Proven::OtherCode).then_some(question))
            .collect();
        let proven = answers.iter().filter(|answer| matches!(answer, Proven::Decided(_))).count();
        metrics::counter!(telemetry::SOURCES, "by" => "proof").increment(proven as u64);
        metrics::counter!(telemetry::SOURCES, "by" => "call").increment(open.len() as u64);
        let mut called = ask(&self.nodes, config.quorum, config.kms, open).await.into_iter();
        let decision = |answer| match answer {
            Proven::Decided(decision) => Some(decision),
            Proven::OtherCode => called.next().flatten(),
            Proven::Nothing => None,
        };
        answers.into_iter().map(decision).collect()
    }

    fn take_answers(&self, due: &[Arc<BootInfo>], answers: Vec<Option<Answer>>, head: Block) {
        let policy = self.shared.config.freshness;
        let now = self.shared.now();
        for answer in &answers {
            metrics::counter!(telemetry::ANSWERS, "outcome" => outcome(answer.as_ref())).increment(1);
        }
        let unanswered = answers.iter().filter(|answer| answer.is_none()).count();
        if unanswered > 0 {
            tracing::debug!(unanswered, head = %head, "no quorum of endpoints agreed on some answers");
        }
        let changes: Vec<_> = self.shared.change(|view| {
            let answered = due.iter().zip(answers).filter_map(|(boot, answer)| Some((boot, answer?)));
            answered.filter_map(|(boot, answer)| view.on_answer(boot, answer, &policy, now)).collect()
        });
        for postern_allowlist::Change { boot, verdict, block } in changes {
            let to = if verdict.is_ok() { "admitted" } else { "refused" };
            metrics::counter!(telemetry::CHANGES, "to" => to).increment(1);
            tracing::info!(app = %boot.app_id, instance = %boot.instance_id, %block, to, "the chain's verdict changed");
            self.shared.announce(Change { boot, verdict, block, seen: self.seen });
        }
    }

    /// Tells the operator how the view is, and drops what nobody asks about any more.
    fn observe(&mut self) {
        let now = self.shared.now();
        let view = self.shared.view();
        let freshness = view.freshness(&self.shared.config.freshness, now);
        metrics::gauge!(telemetry::FRESHNESS).set(f64::from(freshness as u8));
        metrics::gauge!(telemetry::SUBJECTS).set(small(view.len() as u64));
        if let Some(head) = view.head() {
            metrics::gauge!(telemetry::HEAD).set(small(head.number));
            metrics::gauge!(telemetry::HEAD_AGE).set(small(now.saturating_sub(head.timestamp)));
        }
        if freshness != self.freshness {
            match freshness {
                Freshness::Fresh => tracing::info!("the view of the chain is fresh"),
                Freshness::Grace => tracing::warn!("the view of the chain is too old to admit anything new"),
                Freshness::Stale => tracing::error!("the view of the chain is too old to admit anything"),
            }
            self.freshness = freshness;
        }
        let policy = &self.shared.config.freshness;
        if view.any_abandoned(policy, now) {
            self.shared.change(|view| view.forget_abandoned(policy, now));
        }
    }
}

/// Whom the logs concern, by the word of any endpoint; `None` unless a quorum of them answered.
async fn touched(nodes: &[Arc<Endpoint>], quorum: usize, blocks: &[Block], sources: &Sources<'_>) -> Option<Touched> {
    let mut pending: FuturesUnordered<_> = nodes.iter().map(|node| node.touched(blocks, sources)).collect();
    let mut touched = Touched::default();
    let mut heard = 0;
    while heard < quorum {
        if let Ok(word) = pending.next().await? {
            touched.extend(word);
            heard += 1;
        }
    }
    Some(touched)
}

const fn outcome(answer: Option<&Answer>) -> &'static str {
    match answer {
        None => "none",
        Some(Answer { latest: Decision::Allowed, confirmed: Some(Decision::Allowed), .. }) => "allowed",
        Some(_) => "refused",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge for humans; heights and ages stay far below 2^53")]
const fn small(number: u64) -> f64 {
    number as f64
}
