//! Shares the admission policy between tasks: each accepted task has a slot, which is freed exactly once.
//!
//! A task is checked and given its slot in one step, under one lock: however many starts come at once, no more than
//! `max_limit` are accepted. In the same step the node is noted as full, so that nobody sees a full node that is not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

use crate::fleet::admission::{Admission, Refusal};
use crate::fleet::availability::{Availability, Obstacle};
use crate::fleet::cost::{CostLimit, Costs, Excess};

/// The node's slots; clones share them.
#[derive(Clone, Debug)]
pub struct Slots {
    table: Arc<SlotTable>,
}

#[derive(Debug)]
struct SlotTable {
    accepted: Mutex<Accepted>,
    running: watch::Sender<usize>,
    /// As measured last.
    costs: watch::Sender<Costs>,
    availability: Availability,
}

/// What decides about the next task.
#[derive(Debug)]
struct Accepted {
    admission: Admission,
    /// `None`: costs do not limit anything.
    limit: Option<CostLimit>,
    costs: Costs,
    /// The costs allow no more.
    over: bool,
}

/// The right to run one task; dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    table: Arc<SlotTable>,
    room_table_id: i64,
    kind: Kind,
}

impl Slots {
    /// `max_limit`: recordings and broadcasts at once. Nothing else limits them, and nobody is told when they are all taken.
    #[must_use]
    pub fn new(max_limit: u32) -> Self {
        Self::of_node(max_limit, None, Availability::default())
    }

    /// `limit`: what all tasks together may cost. `availability`: where it is noted that there is no room for one more.
    #[must_use]
    pub fn of_node(max_limit: u32, limit: Option<CostLimit>, availability: Availability) -> Self {
        let max_limit = usize::try_from(max_limit).unwrap_or(usize::MAX);
        let accepted = Accepted { admission: Admission::new(max_limit), limit, costs: Costs::default(), over: false };
        let accepted = Mutex::new(accepted);
        let (running, costs) = (watch::Sender::new(0), watch::Sender::new(Costs::default()));
        Self { table: Arc::new(SlotTable { accepted, running, costs, availability }) }
    }

    /// Takes what the running tasks cost, as measured now.
    pub fn measured(&self, costs: Costs) {
        let mut accepted = self.table.lock();
        accepted.costs = costs.clone();
        self.table.announce(&mut accepted);
        self.table.costs.send_replace(costs);
    }

    /// What the running tasks cost, each time it was measured.
    #[must_use]
    pub fn costs(&self) -> watch::Receiver<Costs> {
        self.table.costs.subscribe()
    }

    /// Accepts a task.
    ///
    /// # Errors
    /// As for [`Admission::admit`]; and where the running tasks cost too much for one more.
    pub fn admit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<Slot, Refusal> {
        let mut accepted = self.table.lock();
        accepted.admission.check(room_table_id, kind, &recording)?;
        if let Some(excess) = accepted.excess() {
            return Err(Refusal::MaxLoad { detail: excess_detail(&excess) });
        }
        accepted.admission.admit(room_table_id, kind, recording)?;
        self.table.announce(&mut accepted);
        Ok(Slot { table: Arc::clone(&self.table), room_table_id, kind })
    }

    /// Accepts a task from before a restart, full or not. `None` where one of the same kind runs for the room.
    pub fn readmit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Option<Slot> {
        let mut accepted = self.table.lock();
        accepted.admission.readmit(room_table_id, kind, recording).then(|| {
            self.table.announce(&mut accepted);
            Slot { table: Arc::clone(&self.table), room_table_id, kind }
        })
    }

    /// The recording of this task, if it runs here.
    #[must_use]
    pub fn holds(&self, room_table_id: i64, kind: Kind) -> Option<RecordingId> {
        self.table.lock().admission.holds(room_table_id, kind).cloned()
    }

    /// The number of running recordings and broadcasts, as the heartbeat announces it.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<usize> {
        self.table.running.subscribe()
    }

    /// From now on new tasks are refused.
    pub fn drain(&self) {
        self.table.lock().admission.drain();
    }
}

impl SlotTable {
    fn lock(&self) -> MutexGuard<'_, Accepted> {
        // The policy is consistent at every point that could panic.
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces the running tasks. Called with the lock held, so that the last change is the last one announced.
    fn announce(&self, accepted: &mut Accepted) {
        let excess = accepted.excess();
        match &excess {
            // Not with every measurement: each change is a ping.
            Some(excess) if !accepted.over => self.availability.block(Obstacle::MaxLoad, excess_detail(excess)),
            Some(_) => {}
            None => drop(self.availability.clear(Obstacle::MaxLoad)),
        }
        accepted.over = excess.is_some();
        let admission = &accepted.admission;
        let running = admission.running();
        if admission.is_full() {
            let detail = format!(
                "{running} of {} recordings and broadcasts are running (recorder.max_limit): if that is so often, \
                 add a node, or raise it where the processors allow",
                admission.max_limit()
            );
            self.availability.block(Obstacle::Full, detail);
        } else {
            self.availability.clear(Obstacle::Full);
        }
        self.running.send_if_modified(|before| std::mem::replace(before, running) != running);
    }
}

impl Accepted {
    /// Why the costs allow no more.
    fn excess(&self) -> Option<Excess> {
        self.limit?.excess(self.admission.running(), &self.costs, self.over)
    }
}

fn excess_detail(excess: &Excess) -> String {
    let Excess { running, expected, one_more, limit } = excess;
    format!(
        "{running} recordings and broadcasts cost {expected:.2} processors, and one more some {one_more:.2}: more than \
         the {limit:.2} of recorder.max_load; if that is so often, add a node, or raise it where the processors allow"
    )
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut accepted = self.table.lock();
        accepted.admission.release(self.room_table_id, self.kind);
        self.table.announce(&mut accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_freed_and_announced() {
        let slots = Slots::new(1);
        let mut running = slots.running();
        let id = RecordingId::parse("a").unwrap();
        let slot = slots.admit(7, Kind::Recording, id.clone()).unwrap();
        assert_eq!(*running.borrow_and_update(), 1);
        assert_eq!(slots.holds(7, Kind::Recording), Some(id.clone()));
        assert!(slots.clone().admit(8, Kind::Recording, RecordingId::parse("b").unwrap()).is_err());
        drop(slot);
        assert!(running.has_changed().unwrap());
        assert_eq!(*running.borrow_and_update(), 0);
        assert_eq!(slots.holds(7, Kind::Recording), None);
        slots.drain();
        assert_eq!(slots.admit(7, Kind::Recording, id).unwrap_err(), Refusal::Draining);
    }

    #[test]
    fn a_full_node_is_out_of_the_choice_from_the_last_slot_on_and_until_one_is_freed() {
        let availability = Availability::default();
        let slots = Slots::of_node(2, None, availability.clone());
        let id = |text: &str| RecordingId::parse(text).unwrap();
        let _first = slots.admit(1, Kind::Recording, id("a")).unwrap();
        assert_eq!(availability.obstacle(), None);
        let last = slots.admit(2, Kind::Recording, id("b")).unwrap();
        let (obstacle, detail) = availability.obstacle().unwrap();
        assert_eq!(obstacle, Obstacle::Full);
        assert!(detail.starts_with("2 of 2 recordings and broadcasts are running (recorder.max_limit): "), "{detail}");
        let full = Refusal::Full { running: 2, max_limit: 2 };
        assert_eq!(slots.admit(3, Kind::Recording, id("c")).unwrap_err(), full);
        // One of before a restart, beyond the limit.
        let beyond = slots.readmit(4, Kind::Recording, id("d")).unwrap();
        assert!(availability.obstacle().unwrap().1.starts_with("3 of 2 "));
        drop(last);
        assert_eq!(availability.obstacle().unwrap().0, Obstacle::Full);
        drop(beyond);
        assert_eq!(availability.obstacle(), None);
    }

    #[test]
    fn what_recordings_cost_bounds_them_as_well() {
        let availability = Availability::default();
        let slots = Slots::of_node(9, Some(CostLimit { cores: 1.0 }), availability.clone());
        let admit = |room| slots.admit(room, Kind::Recording, RecordingId::parse(&format!("r{room}")).unwrap());
        let first = admit(1).unwrap();
        let second = admit(2).unwrap();
        // Nothing was measured yet: two are expected to cost all there is.
        let (obstacle, detail) = availability.obstacle().unwrap();
        assert_eq!(obstacle, Obstacle::MaxLoad);
        let cost = "2 recordings and broadcasts cost 1.00 processors, and one more some 0.50: more than the 1.00 of";
        assert!(detail.starts_with(cost), "{detail}");
        let refusal = admit(3).unwrap_err();
        assert_eq!(refusal.to_string(), obstacle.refusal());
        assert_eq!(refusal, Refusal::MaxLoad { detail });
        // They cost less than that: there is room for two more.
        let running = slots.running();
        slots.measured(Costs { recordings: vec![0.2, 0.25], typical: 0.22 });
        assert_eq!(availability.obstacle(), None);
        assert!(!running.has_changed().unwrap(), "a measurement that begins another one would never end");
        let _others = [admit(3).unwrap(), admit(4).unwrap()];
        assert_eq!(availability.obstacle().unwrap().0, Obstacle::MaxLoad);
        drop((first, second));
        slots.measured(Costs { recordings: vec![0.25, 0.25], typical: 0.22 });
        assert_eq!(availability.obstacle(), None);
    }
}
