//! What the watch counts.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) const HEAD: &str = "postern_chain_head_number";
pub(crate) const HEAD_AGE: &str = "postern_chain_head_age_seconds";
pub(crate) const FRESHNESS: &str = "postern_chain_view_staleness";
pub(crate) const SUBJECTS: &str = "postern_chain_workloads";
pub(crate) const REPLACED: &str = "postern_chain_heads_replaced_total";
pub(crate) const ANSWERS: &str = "postern_chain_answers_total";
pub(crate) const SOURCES: &str = "postern_chain_decisions_total";
pub(crate) const CHANGES: &str = "postern_chain_verdict_changes_total";
pub(crate) const EVALUATION: &str = "postern_chain_evaluation_seconds";
pub(crate) const FAULTS: &str = "postern_chain_endpoint_faults_total";
pub(crate) const ENDPOINT_EXCLUDED: &str = "postern_chain_endpoint_excluded";
pub(crate) const ENDPOINT_UP: &str = "postern_chain_endpoint_up";

/// Says what each metric means.
pub(crate) fn describe() {
    describe_gauge!(HEAD, "Height of the last block that a quorum of endpoints agreed on");
    describe_gauge!(HEAD_AGE, Unit::Seconds, "Age of that block by its own timestamp");
    describe_gauge!(
        FRESHNESS,
        "How far the view of the chain can be trusted: 0 fresh, 1 in grace (nothing new is admitted), 2 stale"
    );
    describe_gauge!(SUBJECTS, "Workloads whose admission is being followed");
    describe_counter!(REPLACED, "Heads that did not descend from the one before, so that everything was asked again");
    describe_counter!(
        ANSWERS,
        "Answers that a quorum agreed on (outcome allowed or refused), and questions without one"
    );
    describe_counter!(SOURCES, "Decisions of the contract, by where they come from: a proof of its storage, or a call");
    describe_counter!(CHANGES, "Verdicts that turned into their opposite, by what they turned into");
    describe_histogram!(EVALUATION, Unit::Seconds, "Time to ask the endpoints about one batch of workloads");
    describe_counter!(FAULTS, "Requests that an endpoint failed, or answered against the quorum, by kind");
    describe_gauge!(
        ENDPOINT_EXCLUDED,
        "Whether an endpoint is only heard where there is no quorum without it, because it contradicted the others"
    );
    describe_gauge!(ENDPOINT_UP, "Whether an endpoint answered when last asked for its head");
}
