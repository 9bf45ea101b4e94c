//! The tasks of a tunnel: each waits for one kind of event.

use std::convert::Infallible;
use std::sync::Arc;

use postern_plumbing::tasks::Tasks;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use super::Netstack;
use crate::clock;
use crate::lock::lock;

impl Netstack {
    /// Starts the tasks; they end when the tunnel stops.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks) {
        let stack = || Arc::clone(self);
        let (receiving, draining, ticking) = (stack(), stack(), stack());
        self.spawn(tasks, "tunnel-receive", async move {
            let udp = receiving.link.udp(0);
            receiving.link.keep_receiving(udp, |inbound, now| receiving.deliver(inbound, now)).await
        });
        self.spawn(tasks, "tunnel-deadlines", stack().keep_deadlines());
        self.spawn(tasks, "tunnel-backlog", async move { draining.link.keep_draining(draining.link.udp(0)).await });
        self.spawn(tasks, "tunnel-sessions", async move { ticking.link.keep_ticking().await });
    }

    fn spawn(&self, tasks: &Tasks, name: &'static str, work: impl Future<Output = Infallible> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        tasks.spawn(name, async move {
            tokio::select! {
                () = shutdown.triggered() => {}
                never = work => match never {}
            }
        });
    }

    /// Sleeps until the first deadline, or an earlier one that came up, and looks at the connections whose time has come.
    async fn keep_deadlines(self: Arc<Self>) -> Infallible {
        loop {
            let first = lock(&self.deadlines).first();
            let first = async {
                match first {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = first => self.work_off_deadlines(),
                () = self.earlier.notified() => {}
            }
            yield_now().await;
        }
    }

    fn work_off_deadlines(self: &Arc<Self>) {
        let now = clock::now();
        loop {
            let due = lock(&self.deadlines).pop_due(now);
            let Some((at, key)) = due else { return };
            let flow = lock(&self.flows).get(&key);
            let Some(flow) = flow else { continue };
            self.link.contain(|| {
                let Some(mut state) = self.lock_or_clear(&flow, now) else { return };
                if state.armed == Some(at) {
                    state.armed = None;
                    self.advance(&flow, &mut state);
                }
            });
        }
    }
}
