use super::*;

fn process(pid: u32, parent: u32, ticks: u64) -> Process {
    Process { pid, parent, group: pid, state: 'S', ticks, started: 7 }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.01
}

/// A reading in which every rig has one process, with these seconds of processor time so far.
fn rigs(seconds: &[(&str, u64)]) -> ChildProcesses {
    let processes = seconds.iter().zip(10..);
    let rigs = processes.map(|((name, seconds), pid)| ((*name).to_owned(), vec![process(pid, 1, seconds * 100)]));
    ChildProcesses { rigs: rigs.collect(), ..ChildProcesses::default() }
}

#[test]
fn processes_are_sorted_by_the_child_that_they_descend_from() {
    let all = [
        process(1, 0, 900),
        process(10, 1, 1),
        process(11, 10, 2),
        process(12, 11, 3),
        process(20, 1, 4),
        process(30, 1, 5),
        process(40, 2, 6),
        // Says that it is its own ancestor.
        process(50, 51, 0),
        process(51, 50, 0),
    ];
    let name = |child: &Process| (child.pid != 30).then(|| if child.pid == 10 { "a" } else { "b" }.to_owned());
    let sorted = sort(&all, 1, name);
    let pids = |members: &[Process]| members.iter().map(|process| process.pid).collect::<Vec<_>>();
    assert_eq!(sorted.own, 900);
    assert_eq!((pids(&sorted.rigs["a"]), pids(&sorted.rigs["b"])), (vec![10, 11, 12], vec![20]));
    assert_eq!(pids(&sorted.background), [30]);
}

#[test]
fn a_recording_costs_what_it_took_over_its_last_minute() {
    let mut meter = CostMeter::default();
    // Three seconds of four processors at the opening, then a quarter of one.
    let mut costs = Costs::default();
    for second in (0..=60u64).step_by(5) {
        costs = meter.take(Duration::from_secs(second), &rigs(&[("a", 12 + second / 4)])).0;
        if second < 60 {
            assert!(near(costs.recordings[0], TYPICAL), "young: {costs:?}");
        }
    }
    assert!(near(costs.recordings[0], 0.25), "{costs:?}");
    for second in (65..=130u64).step_by(5) {
        costs = meter.take(Duration::from_secs(second), &rigs(&[("a", 12 + second / 4)])).0;
    }
    assert!(near(costs.recordings[0], 0.25) && near(costs.typical, 0.25), "{costs:?}");
    // A new one counts with what the other costs, until it has cost more.
    costs = meter.take(Duration::from_secs(135), &rigs(&[("a", 46), ("b", 3)])).0;
    assert!(near(costs.recordings[1], costs.typical), "{costs:?}");
    costs = meter.take(Duration::from_secs(140), &rigs(&[("a", 47), ("b", 45)])).0;
    assert!(near(costs.recordings[1], 0.75), "45 s of a minute: {costs:?}");
    // What was learned is remembered when all have ended.
    costs = meter.take(Duration::from_secs(145), &rigs(&[])).0;
    assert!(costs.recordings.is_empty() && near(costs.typical, 0.25), "{costs:?}");
}

#[test]
fn the_programs_own_time_is_shared_and_the_background_counts_for_itself() {
    let mut meter = CostMeter::default();
    let mut reading = |second: u64| {
        let mut processes = rigs(&[("a", second / 4), ("b", second / 4)]);
        processes.own = 5000 + second * 20;
        processes.background = vec![process(90, 1, second * 150)];
        meter.take(Duration::from_secs(second), &processes)
    };
    let mut last = (Costs::default(), 0.0);
    for second in (0..=120u64).step_by(5) {
        last = reading(second);
    }
    let (costs, background) = last;
    assert!(costs.recordings.iter().all(|cost| near(*cost, 0.35)), "a quarter and half of a fifth: {costs:?}");
    assert!(near(background, 1.5), "{background}");
}

#[test]
fn a_burst_of_starts_does_not_overshoot() {
    let limit = CostLimit { cores: 1.7 };
    let costs = Costs { recordings: vec![0.4], typical: 0.4 };
    // Four of 0.4 fit, whether they have processes yet or not.
    let allowed = (1..10).take_while(|running| limit.excess(*running, &costs, false).is_none()).count();
    assert_eq!(1 + allowed, 4);
    let excess = limit.excess(4, &costs, false).unwrap();
    assert!(near(excess.expected, 1.6) && near(excess.one_more, 0.4) && excess.running == 4);
}

#[test]
fn an_idle_node_is_allowed_one_and_a_limit_is_left_with_some_room() {
    let low = CostLimit { cores: 0.1 };
    assert_eq!(low.excess(0, &Costs::default(), false), None);
    assert!(low.excess(1, &Costs::default(), false).is_some());
    let limit = CostLimit { cores: 1.0 };
    let costs = Costs { recordings: vec![0.49], typical: 0.49 };
    assert_eq!(limit.excess(1, &costs, false), None);
    assert!(limit.excess(1, &costs, true).is_some(), "not enough below the limit to come back");
}
