use super::*;

fn crowd(served: usize, refused: usize, arriving: u64) -> Crowd {
    Crowd {
        served: vec![Duration::from_millis(3); served],
        refused: vec!["connection refused".to_owned(); refused],
        arriving: Duration::from_millis(arriving),
        timetable: Duration::from_millis(1000),
    }
}

#[test]
fn a_round_counts_when_nearly_all_strangers_came_in_time_and_were_served() {
    assert_eq!(trouble(&crowd(100, 0, 1001)), None);
    assert_eq!(trouble(&crowd(96, 4, 1040)), None);
    let refused = trouble(&crowd(94, 6, 1001)).unwrap();
    assert!(refused.contains("6 of 100") && refused.contains("connection refused"), "{refused}");
    assert!(trouble(&crowd(100, 0, 1100)).unwrap().contains("too busy"));
}

#[test]
fn rounds_that_do_not_count_leave_no_figure() {
    let mut outcome = Outcome::default();
    let fast = [Duration::from_micros(200)];
    outcome.record(&fast, &fast, &crowd(0, 100, 1000));
    assert_eq!(outcome.troubles().len(), 1);
    let measured = |outcome: &Outcome| outcome.rows().iter().filter(|row| row.rounds.is_some()).count();
    assert_eq!(measured(&outcome), 1, "the session was alone all the same");
    outcome.record(&fast, &fast, &crowd(100, 0, 1000));
    outcome.others.push(1.0);
    assert_eq!(measured(&outcome), outcome.rows().len());
}
