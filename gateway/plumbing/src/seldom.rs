//! A future that is asked only when it has something to say.
//!
//! A task that waits for many things is polled as a whole whenever one of them is there. A relay is woken for every message;
//! what could end it, once in days: each look at a channel, a timer or a token costs a lock, which all sessions share.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

pin_project! {
    /// A future that is polled once, and again only after it has asked to be: not when its task is woken for another reason.
    #[derive(Debug)]
    pub struct Seldom<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
    }
}

/// What the future rings.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Seldom<F> {
    /// Wraps a future.
    pub fn new(future: F) -> Self {
        Self { future, bell: Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() }) }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Before the look at the bell: whoever rings it later finds the task.
        this.bell.task.register(cx.waker());
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(this.bell));
        this.future.poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_when_it_asks_and_not_when_its_neighbour_does() {
        let (polls, news) = (AtomicUsize::new(0), Notify::new());
        let mut waiting = Box::pin(news.notified());
        let seldom = Seldom::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            waiting.as_mut().poll(cx)
        }));
        let busy = async {
            for _ in 0..1_000 {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(polls.load(Ordering::Relaxed), 1);
            news.notify_waiters();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = seldom => {}
            () = busy => {}
        }
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_future_that_rings_while_it_is_polled_is_polled_again() {
        let mut left = 3;
        let seldom = Seldom::new(poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        seldom.await;
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_polled_it_last() {
        let news = Arc::new(Notify::new());
        let told = Arc::clone(&news);
        let mut seldom = Box::pin(Seldom::new(async move { told.notified().await }));
        assert!(futures_util::poll!(&mut seldom).is_pending());
        let waiting = tokio::join!(seldom, async {
            tokio::task::yield_now().await;
            news.notify_one();
        });
        assert_eq!(waiting, ((), ()));
    }
}
