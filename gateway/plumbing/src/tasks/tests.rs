use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_tasks_that_end_in_time() {
    let tasks = Tasks::new();
    tasks.spawn("short", sleep(SECOND));
    assert_eq!(tasks.count(), 1);
    let drained = tasks.close_and_wait(10 * SECOND).await;
    assert_eq!(drained, Drained { clean: true, left: 0 });
    assert_eq!(drained.to_string(), "clean");
    assert_eq!(tasks.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_counts_and_cuts_what_is_left() {
    let tasks = Tasks::new();
    let (held, cut) = oneshot::channel::<()>();
    tasks.spawn("endless", async move {
        let _held = held;
        pending::<()>().await;
    });
    tasks.spawn("short", sleep(SECOND));
    let started = Instant::now();
    let drained = tasks.close_and_wait(5 * SECOND).await;
    assert_eq!(drained, Drained { clean: false, left: 1 });
    assert_eq!(drained.to_string(), "forced with 1 left");
    assert_eq!(started.elapsed(), 5 * SECOND);
    assert!(cut.await.is_err(), "the endless task was dropped");
}

#[tokio::test]
async fn a_dropped_handle_aborts_its_task_and_a_detached_one_does_not() {
    let (held, aborted) = oneshot::channel::<()>();
    drop(Task::spawn("aborted", async move {
        let _held = held;
        pending::<()>().await;
    }));
    assert!(aborted.await.is_err());

    let (done, finished) = oneshot::channel();
    Task::spawn("detached", async move { done.send(7).unwrap() }).detach();
    assert_eq!(finished.await, Ok(7));
}

#[tokio::test]
async fn a_result_a_panic_and_a_stop_are_told_apart() {
    assert_eq!(Task::spawn("fine", async { 3 }).join().await, Ok(3));
    assert_eq!(
        Task::spawn("broken", async { panic!("for the test") }).join().await,
        Err::<(), _>(TaskFailed::Panicked("broken"))
    );
    let endless = Task::spawn("endless", pending::<()>());
    endless.abort();
    assert_eq!(endless.join().await, Err(TaskFailed::Stopped("endless")));
}

#[tokio::test]
async fn a_stopped_task_is_gone_when_stop_returns() {
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let task = Task::spawn("endless", async move {
        let _inside = inside;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    task.stop().await;
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn maintenance_starts_again_after_errors_and_panics() {
    let runs = Arc::new(AtomicUsize::new(0));
    let (third, reached) = oneshot::channel();
    let mut third = Some(third);
    let counted = Arc::clone(&runs);
    let task = maintenance("flaky", move || {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        let third = if run == 2 { third.take() } else { None };
        async move {
            match run {
                0 => return Err("first failure"),
                1 => panic!("for the test"),
                _ => drop(third.map(|third| third.send(()))),
            }
            pending::<Result<Infallible, &str>>().await
        }
    });
    reached.await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn maintenance_survives_a_panic_before_there_is_a_future() {
    let (second, reached) = oneshot::channel();
    let mut second = Some(second);
    let mut asked = 0;
    let task = maintenance("careless", move || {
        asked += 1;
        assert!(asked > 1, "for the test");
        if let Some(second) = second.take() {
            second.send(()).unwrap();
        }
        pending::<Result<Infallible, &str>>()
    });
    reached.await.unwrap();
    drop(task);
}
