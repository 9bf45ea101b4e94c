//! What is counted of a session while it runs and when it ends, however it ends.

use postern_plumbing::relay::Progress;

/// Counts a session for as long as it lives, and its bytes when it is dropped.
#[derive(Debug)]
pub struct Meter {
    /// What the session's relay has moved.
    pub progress: Progress,
    directions: [&'static str; 2],
}

impl Meter {
    /// A session begins. `directions` are the names of what goes upstream and of what comes back.
    #[must_use]
    pub fn start(directions: [&'static str; 2]) -> Self {
        metrics::gauge!("postern_sidecar_sessions").increment(1);
        Self { progress: Progress::default(), directions }
    }
}

/// Counts a session that was cut, and whether its client was told why.
pub fn cut(reason: &'static str, told: bool) {
    let told = if told { "yes" } else { "no" };
    metrics::counter!("postern_sidecar_sessions_cut_total", "reason" => reason, "told" => told).increment(1);
}

impl Drop for Meter {
    fn drop(&mut self) {
        metrics::gauge!("postern_sidecar_sessions").decrement(1);
        for (direction, bytes) in
            self.directions.into_iter().zip([self.progress.to_upstream(), self.progress.to_client()])
        {
            metrics::counter!("postern_sidecar_bytes_total", "direction" => direction).increment(bytes);
        }
    }
}
