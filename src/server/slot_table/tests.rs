use proptest::prelude::*;

use super::*;

/// Slots whose holders are numbered in the order in which they took them.
struct Table {
    inner: SlotTable<u64>,
    now: u64,
    slots: Vec<Arc<Slot<u64>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Free,
    Replaced(u64),
    Full,
}

impl Table {
    fn new(slots: usize, reserved: usize) -> Self {
        Self {
            inner: SlotTable::new(slots, reserved),
            now: 0,
            slots: Vec::new(),
        }
    }

    /// Uid 0 is privileged.
    fn take(&mut self, uid: u32) -> Seen {
        self.now += 1;
        let number = self.slots.len() as u64;
        match self.inner.take(Some(uid), uid == 0, self.now, number) {
            Outcome::Free(slot) => {
                self.slots.push(slot);
                Seen::Free
            }
            Outcome::Replaced { new, old } => {
                self.slots.push(new);
                assert!(old.is_replaced());
                Seen::Replaced(old.holder)
            }
            Outcome::Full => Seen::Full,
        }
    }

    fn sent(&mut self, number: usize) {
        self.now += 1;
        self.slots[number].sent(self.now);
    }

    fn release(&mut self, number: usize) {
        let slot = Arc::clone(&self.slots[number]);
        self.inner.release(&slot);
    }
}

#[test]
fn new_user_replaces_the_longest_silent_slot_of_the_largest_holder() {
    let mut table = Table::new(5, 0);
    for uid in [7, 7, 7, 8, 8] {
        assert_eq!(table.take(uid), Seen::Free);
    }
    table.sent(0);
    assert_eq!(table.take(9), Seen::Replaced(1));
    // Now 7 and 8 hold two each, and the first slot of 8 is silent for longer than 2 and 0 are.
    table.sent(2);
    assert_eq!(table.take(9), Seen::Replaced(3));
}

#[test]
fn user_that_holds_as_many_as_the_largest_holder_gets_no_slot() {
    let mut table = Table::new(2, 0);
    assert_eq!([table.take(7), table.take(8)], [Seen::Free, Seen::Free]);
    assert_eq!(table.take(7), Seen::Full);
    assert_eq!(table.take(9), Seen::Replaced(0));
    assert_eq!(table.inner.held_by(Some(7)), 0);
}

#[test]
fn reserved_slots_are_for_privileged_users_only() {
    let mut table = Table::new(4, 2);
    assert_eq!([table.take(7), table.take(8)], [Seen::Free, Seen::Free]);
    assert_eq!(table.take(7), Seen::Full);
    assert_eq!(table.take(9), Seen::Replaced(0));
    assert_eq!([table.take(0), table.take(0)], [Seen::Free, Seen::Free]);
    assert_eq!(table.take(0), Seen::Full, "root holds the most itself");
    assert_eq!(
        table.take(6),
        Seen::Replaced(1),
        "a reserved slot is of no use"
    );
}

#[test]
fn privileged_user_that_holds_everything_loses_slots_too() {
    let mut table = Table::new(4, 1);
    for _ in 0..4 {
        assert_eq!(table.take(0), Seen::Free);
    }
    assert_eq!(table.take(7), Seen::Replaced(0));
    assert_eq!(table.take(7), Seen::Replaced(1));
    assert_eq!(table.take(7), Seen::Full);
}

#[test]
fn replaced_slot_is_given_back_only_once() {
    let mut table = Table::new(2, 0);
    assert_eq!([table.take(7), table.take(7)], [Seen::Free, Seen::Free]);
    assert_eq!(table.take(8), Seen::Replaced(0));
    table.release(0);
    assert_eq!(table.inner.taken, 2);
    table.release(1);
    table.release(2);
    assert_eq!(
        (table.inner.taken, table.inner.taken_by_unprivileged),
        (0, 0)
    );
    assert!(table.inner.users.is_empty() && table.inner.ranking.is_empty());
}

#[derive(Clone, Debug)]
enum Event {
    Take(u32),
    Sent(usize),
    Release(usize),
}

/// The same decisions by exhaustive search.
struct Model {
    slots: usize,
    reserved: usize,
    /// Number, uid and when it sent last.
    held: Vec<(u64, u32, u64)>,
}

impl Model {
    fn count(&self, uid: u32) -> usize {
        self.held.iter().filter(|held| held.1 == uid).count()
    }

    fn take(&mut self, uid: u32, number: u64, now: u64) -> Seen {
        let unprivileged = self.held.iter().filter(|held| held.1 != 0).count();
        let is_shared_full = uid != 0 && unprivileged >= self.slots - self.reserved;
        let mut seen = Seen::Free;
        if is_shared_full || self.held.len() >= self.slots {
            let candidates = self
                .held
                .iter()
                .filter(|held| !(is_shared_full && held.1 == 0));
            let worst = candidates.max_by_key(|held| (self.count(held.1), Reverse(held.2)));
            match worst
                .copied()
                .filter(|held| self.count(held.1) > self.count(uid))
            {
                None => return Seen::Full,
                Some(worst) => {
                    self.held.retain(|held| held.0 != worst.0);
                    seen = Seen::Replaced(worst.0);
                }
            }
        }
        self.held.push((number, uid, now));
        seen
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_u32).prop_map(Event::Take),
        3 => (0..200_usize).prop_map(Event::Sent),
        1 => (0..200_usize).prop_map(Event::Release),
    ]
}

proptest! {
    #[test]
    fn decisions_match_an_exhaustive_model(
        slots in 1..12_usize,
        reserved in 0..4_usize,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let reserved = reserved.min(slots - 1);
        let mut table = Table::new(slots, reserved);
        let mut model = Model { slots, reserved, held: Vec::new() };
        for event in events {
            match event {
                Event::Take(uid) => {
                    let number = table.slots.len() as u64;
                    let expected = model.take(uid, number, table.now + 1);
                    prop_assert_eq!(table.take(uid), expected);
                }
                Event::Sent(number) if number < table.slots.len() => {
                    table.sent(number);
                    for held in &mut model.held {
                        if held.0 == number as u64 {
                            held.2 = table.now;
                        }
                    }
                }
                Event::Release(number) if number < table.slots.len() => {
                    table.release(number);
                    model.held.retain(|held| held.0 != number as u64);
                }
                Event::Sent(_) | Event::Release(_) => {}
            }
            let taken = model.held.len();
            prop_assert_eq!(table.inner.taken, taken);
            let sum: usize = table.inner.largest().map(|(_, held)| held).sum();
            prop_assert_eq!(sum, taken);
            prop_assert!(taken <= slots);
        }
    }
}
