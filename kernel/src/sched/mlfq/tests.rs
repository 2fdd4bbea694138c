//! Who runs next, and for how long.

use super::super::list::Links;
use super::*;

struct Sim {
    id: usize,
    e: Entity,
    links: Links<Sim>,
}
// SAFETY: one field, always the same.
unsafe impl Linked for Sim {
    fn links(&self) -> &Links<Sim> {
        &self.links
    }
}
impl Schedulable for Sim {
    fn entity(&self) -> &Entity {
        &self.e
    }
}
#[allow(clippy::vec_box)] // Queues link the entities: they must not move.
fn sims(nices: &[i8]) -> Vec<Box<Sim>> {
    nices
        .iter()
        .enumerate()
        .map(|(id, &n)| {
            Box::new(Sim {
                id,
                e: Entity::new(n),
                links: Links::new(),
            })
        })
        .collect()
}
fn put(q: &mut Mlfq<Sim>, s: &Sim, place: Place) {
    // SAFETY: the tests keep their threads alive and on one queue at a time.
    unsafe { q.enqueue(NonNull::from(s), place) };
}
fn get(q: &mut Mlfq<Sim>, now: u64) -> usize {
    // SAFETY: as above.
    unsafe { q.pick(now).unwrap().as_ref() }.id
}

/// Runs CPU hogs for `total` ns; returns each one's run time.
fn run_hogs(nices: &[i8], total: u64) -> Vec<u64> {
    let sims = sims(nices);
    let mut q = Mlfq::new();
    let mut ran = vec![0; nices.len()];
    for s in &sims {
        put(&mut q, s, Place::Back);
    }
    let mut now = 0;
    while now < total {
        let id = get(&mut q, now);
        let slice = sims[id].e.remaining_ns().unwrap();
        now += slice;
        ran[id] += slice;
        assert_eq!(sims[id].e.charge(slice), Quantum::UsedUp);
        put(&mut q, &sims[id], Place::Back);
    }
    ran
}

#[test]
fn equal_hogs_share_equally() {
    let ran = run_hogs(&[0, 0, 0], 30_000_000_000);
    for r in &ran {
        assert!(r.abs_diff(10_000_000_000) < 200_000_000, "{ran:?}");
    }
}

#[test]
fn nicer_hogs_get_less_but_never_nothing() {
    let ran = run_hogs(&[0, 5, 19], 60_000_000_000);
    assert!(ran[0] > 2 * ran[1], "{ran:?}");
    assert!(ran[1] > 3 * ran[2], "{ran:?}");
    assert!(ran[2] > 100_000_000, "{ran:?}");
}

#[test]
fn hog_sinks_and_newcomer_preempts() {
    let sims = sims(&[0, 0]);
    let e = &sims[0].e;
    assert_eq!(e.quantum_ns(), Some(10_000_000));
    assert_eq!(e.charge(9_999_999), Quantum::Left);
    // Pieces add up: giving up the CPU early does not reset the quantum.
    assert_eq!(e.charge(1), Quantum::UsedUp);
    assert_eq!(e.quantum_ns(), Some(20_000_000));
    assert_eq!(e.charge(20_000_000), Quantum::UsedUp);
    assert_eq!(e.charge(40_000_000), Quantum::UsedUp);
    assert_eq!(e.quantum_ns(), Some(40_000_000));
    assert!(sims[1].e.key() < e.key());
    let mut q = Mlfq::new();
    put(&mut q, &sims[0], Place::Back);
    put(&mut q, &sims[1], Place::Back);
    assert_eq!(q.best_key(), Some(100));
    assert_eq!(get(&mut q, 0), 1);
}

#[test]
fn sleepers_climb_hogs_with_short_naps_do_not() {
    let sims = sims(&[0, 0, 0]);
    for s in &sims[..2] {
        let _ = s.e.charge(10_000_000);
        let _ = s.e.charge(20_000_000);
        assert_eq!(s.e.key(), 102);
    }
    // An interactive thread: 1 ms of work per 20 ms of waiting.
    for _ in 0..3 {
        let _ = sims[0].e.charge(1_000_000);
        sims[0].e.woken(20_000_000);
    }
    assert_eq!(sims[0].e.key(), 100);
    // Many short sleeps count as much as one long one.
    let e = &sims[2].e;
    let _ = e.charge(10_000_000);
    let _ = e.charge(20_000_000);
    for _ in 0..20 {
        let _ = e.charge(100_000);
        e.woken(1_000_000);
    }
    assert_eq!(e.key(), 100);
    // A hog that naps 10 us per 5 ms stays down.
    for _ in 0..100 {
        let _ = sims[1].e.charge(5_000_000);
        sims[1].e.woken(10_000);
    }
    assert_eq!(sims[1].e.key(), 102);
}

#[test]
fn boost_ends_starvation() {
    let sims = sims(&[0, 0]);
    let mut q = Mlfq::new();
    let _ = sims[0].e.charge(10_000_000);
    let _ = sims[0].e.charge(20_000_000);
    put(&mut q, &sims[0], Place::Back);
    let mut now = 0;
    let mut starved_for = 0;
    // Thread 1 always comes back at the best level (it sleeps a lot on paper).
    loop {
        put(&mut q, &sims[1], Place::Back);
        if get(&mut q, now) == 0 {
            break;
        }
        now += 5_000_000;
        starved_for += 5_000_000;
        let _ = sims[1].e.charge(5_000_000);
        sims[1].e.woken(1_000_000_000);
    }
    assert!(starved_for <= BOOST_INTERVAL_NS + 10_000_000);
    assert_eq!(sims[0].e.key(), 100);
}

#[test]
fn boosted_threads_can_be_removed_and_stolen() {
    let sims = sims(&[0, 0, 0]);
    let mut q = Mlfq::new();
    for s in &sims {
        let _ = s.e.charge(10_000_000);
        put(&mut q, s, Place::Back);
    }
    assert_eq!(get(&mut q, BOOST_INTERVAL_NS), 0);
    // SAFETY: thread 2 is on the queue.
    unsafe { q.remove(NonNull::from(&*sims[2])) };
    assert!(q.steal(|s| s.id == 2).is_none());
    assert!(q.steal(|s| s.id == 1).is_some());
    assert!(q.is_empty());
    assert_eq!(sims[1].e.key(), 100);
}

#[test]
fn realtime_runs_first_by_priority() {
    let sims = sims(&[-20, 0, 0, 0]);
    sims[1].e.set_class(Class::Fifo(10));
    sims[2].e.set_class(Class::RoundRobin(50));
    sims[3].e.set_class(Class::RoundRobin(50));
    let mut q = Mlfq::new();
    for s in &sims {
        put(&mut q, s, Place::Back);
    }
    assert_eq!(get(&mut q, 0), 2);
    put(&mut q, &sims[2], Place::Back);
    assert_eq!(get(&mut q, 0), 3);
    put(&mut q, &sims[3], Place::Front);
    assert_eq!(get(&mut q, 0), 3);
    assert_eq!(get(&mut q, 0), 2);
    assert_eq!(get(&mut q, 0), 1);
    assert_eq!(sims[1].e.charge(u64::MAX), Quantum::Left);
    assert_eq!(get(&mut q, 0), 0);
}

#[test]
fn positive_nice_never_reaches_the_best_level_by_sleeping() {
    let e = Entity::new(5);
    e.woken(u64::MAX);
    assert_eq!(e.key(), 101);
    let e = Entity::new(15);
    e.woken(u64::MAX);
    assert_eq!(e.key(), 102);
}

#[test]
fn one_long_burst_is_no_habit_but_several_are() {
    let short = |usual: u64| usual < SHORT_BURST_NS;
    let mut usual = usual_burst(0, 20_000);
    assert_eq!(usual, 20_000);
    assert!(short(usual_burst(usual_burst(0, 8_000_000), 20_000)));
    usual = usual_burst(usual, 8_000_000);
    assert!(short(usual));
    for _ in 0..8 {
        usual = usual_burst(usual, 8_000_000);
    }
    assert!(!short(usual));
    for _ in 0..8 {
        usual = usual_burst(usual, 20_000);
    }
    assert!(short(usual));
}
