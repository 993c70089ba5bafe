use proptest::prelude::*;

use super::*;
use crate::fleet::recording_needs::RecordingNeeds;

const LOOK: Duration = Duration::from_secs(8);

/// A machine that holds a number of recordings, and what it costs to find that out.
struct Machine {
    holds: u32,
    room: u32,
    /// Processors of one recording; the machine has two.
    cost: f64,
    /// Of other programs.
    others: f64,
    opening: Duration,
}

impl Machine {
    fn window(&self, recordings: u32) -> Window {
        Window {
            recordings,
            frames_lost: if recordings <= self.holds { 0.0 } else { 0.3 },
            pace: 1.0,
            busy: (self.others + f64::from(recordings) * self.cost / 2.0).min(1.0),
            needs: RecordingNeeds { cores: self.cost, ..RecordingNeeds::default() },
            ..Window::default()
        }
    }

    /// Searches; returns what held, why it ended, the numbers that were tried, and how long it took.
    fn search(&self, first: u32, most: u32, budget: Duration) -> (u32, SearchEnd, Vec<u32>, Duration) {
        let mut search = Search::new(SearchLimits { first, most, cores: 2.0, look: LOOK });
        let (mut running, mut tried, mut took) = (0, Vec::new(), Duration::ZERO);
        for _ in 0..40 {
            let now = Resources { running, room: self.room, opening: self.opening, left: budget.saturating_sub(took) };
            match search.next(&now) {
                SearchStep::Measure(number) => {
                    took += LOOK + self.opening * number.saturating_sub(running);
                    running = number;
                    tried.push(number);
                    search.add(self.window(number));
                }
                SearchStep::End(end) => {
                    return (search.held().map_or(0, |window| window.recordings), end, tried, took);
                }
            }
        }
        panic!("it does not end: {tried:?}");
    }
}

fn machine(holds: u32, cost: f64) -> Machine {
    Machine { holds, room: 1000, cost, others: 0.05, opening: Duration::from_millis(1500) }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn the_border_is_found_in_few_steps() {
    let (held, end, tried, _) = machine(6, 0.3).search(1, 1000, LONG);
    assert_eq!((held, end), (6, SearchEnd::Full));
    assert!(tried.len() <= 5 && tried.contains(&7), "{tried:?}");
    let (held, end, tried, _) = machine(34, 0.055).search(1, 1000, LONG);
    assert_eq!((held, end), (34, SearchEnd::Full));
    assert!(tried.len() <= 8 && tried.contains(&35), "{tried:?}");
    assert_eq!(machine(0, 2.0).search(1, 1000, LONG).0, 0);
}

#[test]
fn memory_and_the_operators_limit_end_it_where_all_hold() {
    assert_eq!(
        machine(50, 0.01).search(1, 2, LONG),
        (2, SearchEnd::Most, vec![1, 2], LOOK * 2 + Duration::from_secs(3))
    );
    let small = Machine { room: 3, ..machine(50, 0.01) };
    assert_eq!((small.search(1, 1000, LONG).0, small.search(1, 1000, LONG).1), (3, SearchEnd::Memory));
}

#[test]
fn a_loss_by_a_moment_is_looked_at_again() {
    let mut search = Search::new(SearchLimits { first: 1, most: 2, cores: 2.0, look: LOOK });
    let now = Resources { running: 2, room: 9, opening: LOOK, left: LONG };
    search.add(machine(2, 0.3).window(1));
    search.add(Window { frames_lost: 0.02, ..machine(2, 0.3).window(2) });
    assert_eq!(search.next(&now), SearchStep::Measure(2));
    let mut lost = search.clone();
    search.add(machine(2, 0.3).window(2));
    assert_eq!(search.next(&now), SearchStep::End(SearchEnd::Most));
    lost.add(Window { frames_lost: 0.02, ..machine(2, 0.3).window(2) });
    assert_eq!(lost.next(&now), SearchStep::End(SearchEnd::Full));
    assert_eq!(lost.held().unwrap().recordings, 1);
}

#[test]
fn one_that_begins_with_many_steps_back() {
    let (held, end, tried, _) = machine(5, 0.3).search(8, 8, LONG);
    assert_eq!((held, end), (5, SearchEnd::Full));
    assert_eq!(tried[..2], [8, 6]);
    assert_eq!(machine(9, 0.3).search(8, 8, LONG).2, [8]);
    assert_eq!(machine(0, 0.3).search(4, 4, LONG).0, 0);
}

proptest! {
    #[test]
    fn it_never_says_more_than_holds_and_keeps_to_its_time(
        holds in 0u32..120,
        room in 1u32..200,
        most in 1u32..200,
        cost in 0.01f64..2.5,
        others in 0.0f64..1.0,
        opening_ms in 10u64..8000,
        budget_s in 20u64..200,
    ) {
        let machine = Machine { holds, room, cost, others, opening: Duration::from_millis(opening_ms) };
        let budget = Duration::from_secs(budget_s);
        let (held, end, tried, took) = machine.search(1, most, budget);
        prop_assert!(held <= holds.min(room).min(most));
        prop_assert!(tried.iter().all(|number| (1..=room.min(most)).contains(number)), "{:?}", tried);
        prop_assert!(took <= budget.max(LOOK + machine.opening), "{:?} of {:?}", took, budget);
        match end {
            SearchEnd::Full => prop_assert_eq!(held, holds),
            SearchEnd::Most => prop_assert_eq!(held, most),
            SearchEnd::Memory => prop_assert_eq!(held, room),
            SearchEnd::Time => {}
            SearchEnd::NotStarted(_) => prop_assert!(false),
        }
    }
}
