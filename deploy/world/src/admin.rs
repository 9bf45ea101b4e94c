//! The admin port of a gateway or sidecar.

use std::net::SocketAddr;
use std::time::Duration;

use postern_plumbing::http::{Request, Response, send};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Where a program tells operators how it is.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// Whether the program is ready; if not, what it says is missing.
    ///
    /// # Errors
    /// When it is not ready or does not answer.
    pub async fn ready(&self) -> Result<(), String> {
        let response = self.get("/readyz").await?;
        if response.is_success() { Ok(()) } else { Err(String::from_utf8_lossy(&response.body).into_owned()) }
    }

    /// The sum of a metric over all its label sets that contain `label` (such as `reason="no_route"`; empty for all).
    ///
    /// # Errors
    /// When the program does not answer.
    pub async fn metric(&self, name: &str, label: &str) -> Result<f64, String> {
        let response = self.get("/metrics").await?;
        Ok(sum(&String::from_utf8_lossy(&response.body), name, label))
    }

    async fn get(&self, path: &str) -> Result<Response, String> {
        let stream = TcpStream::connect(self.0).await.map_err(|error| error.to_string())?;
        let request = Request::get("admin", path);
        send(stream, request, MAX_ANSWER, DEADLINE).await.map_err(|error| error.to_string())
    }
}

/// Adds up the samples of one metric in Prometheus' text format.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
        (metric == name && labels.contains(label)).then(|| value.parse::<f64>().ok()).flatten()
    };
    metrics.lines().filter_map(sample).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_name_and_label() {
        let text = "# TYPE refused_total counter\nrefused_total{reason=\"no_route\"} 2\n\
                    refused_total{reason=\"timeout\"} 3\nrefused_total_other 9\nsessions 4\n";
        let close = |left: f64, right: f64| (left - right).abs() < f64::EPSILON;
        assert!(close(sum(text, "refused_total", ""), 5.0));
        assert!(close(sum(text, "refused_total", "reason=\"timeout\""), 3.0));
        assert!(close(sum(text, "sessions", ""), 4.0));
        assert!(close(sum(text, "nothing", ""), 0.0));
    }
}
