//! What must be true of the cloud once everything has settled.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rollcall_model::ingest::{ClearType, PagerState};
use rollcall_pager::{Session, State};
use uuid::Uuid;

use crate::cloud::{Gap, Known, Stored};
use crate::world::World;

/// How far a time may be off where nothing is lost, whatever the box's clock does: as long as a notification waits for those before
/// it, for of what comes late the relay takes the box's clock to be behind.
const TOLERANCE: time::Duration = time::Duration::minutes(10);

/// What happened in some seeds.
#[derive(Default, Debug)]
pub struct Summary {
    seeds: u64,
    days: f64,
    /// Steps of boxes, and events that the cloud has of them.
    steps: usize,
    events: usize,
    /// Steps that no event tells of, and what gap records say is missing.
    missing: u64,
    gaps: usize,
    named: u64,
    /// Seeds in which nobody can say how many.
    without_number: u64,
    calm: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.days += other.days;
        self.steps += other.steps;
        self.events += other.events;
        self.missing += other.missing;
        self.gaps += other.gaps;
        self.named += other.named;
        self.without_number += other.without_number;
        self.calm += other.calm;
    }

    /// A simulation in which nothing goes wrong would prove nothing.
    pub fn is_worth_its_while(&self) {
        assert!(self.missing > self.seeds, "{self:?}");
        assert!(self.without_number * 10 < self.seeds, "{self:?}");
        assert!(self.calm * 20 > self.seeds, "{self:?}");
    }
}

/// Compares the cloud with the box.
pub fn check(world: &World<'_>, known: &Known) -> Summary {
    let truth = &world.device.truth;
    let base = world.base.expect("the box was read");
    let stored: BTreeMap<Uuid, &Stored> = known
        .sessions
        .iter()
        .map(|stored| (stored.source_id.parse().expect("a uuid"), stored))
        .collect();
    assert_eq!(
        stored.len(),
        known.sessions.len(),
        "a session is there twice"
    );
    let mut events: HashMap<Uuid, Vec<&str>> = HashMap::new();
    for (session, what) in &known.events {
        events.entry(*session).or_default().push(what);
    }
    let mut told = BTreeMap::new();
    for (uuid, stored) in &stored {
        assert!(truth.sessions.contains_key(uuid), "{uuid} never was");
        let story = events.get(&stored.id).map_or(&[][..], Vec::as_slice);
        assert_eq!(
            usize::try_from(stored.revision).ok(),
            Some(story.len()),
            "{uuid}"
        );
        check_story(world, *uuid, story);
        told.insert(*uuid, story.len());
    }
    let is_of = |gap: &&Gap, reason: &str| gap.reason.contains(reason);
    let is_dropped = known.gaps.iter().any(|gap| is_of(&gap, "spool was full"));
    if !is_dropped {
        check_states(world, &stored);
    }
    let lacking = lacking(world, base, &told);
    let missing: u64 = lacking.values().sum();
    let named: i64 = known.gaps.iter().filter_map(|gap| gap.events).sum();
    let named = named.unsigned_abs();
    // Of a box that lost its memory nobody knows what it did before; and what makes room may be a record that says so.
    let is_anew = |gap: &&Gap| is_of(gap, "began anew") || is_of(gap, "spool was full");
    let is_anew = known
        .gaps
        .iter()
        .filter(is_anew)
        .any(|gap| gap.events.is_none());
    // Another box that has counted past the first, and forgotten what it gave out anew, may be taken for it: something is told
    // as missing all the same.
    let is_anew = is_anew || truth.is_replaced && !known.gaps.is_empty();
    assert!(
        is_anew || named >= missing,
        "changes are missing of these ids, {lacking:?}, of which gap records name {named}: {:?}\n{:?}",
        known.gaps,
        world.plan
    );
    if world.plan.is_calm && !is_dropped {
        assert_eq!(
            (missing, known.gaps.len()),
            (0, 0),
            "nothing was lost: {:?}",
            known.gaps
        );
    }
    Summary {
        seeds: 1,
        days: world.now().as_secs_f64() / 86_400.0,
        steps: truth.steps.len(),
        events: known.events.len(),
        missing,
        gaps: known.gaps.len(),
        named,
        without_number: u64::from(is_anew),
        calm: u64::from(world.plan.is_calm),
    }
}

/// How many changes no event tells of, by the session's id at the box. `told` counts the events of each.
fn lacking(world: &World<'_>, base: usize, told: &BTreeMap<Uuid, usize>) -> BTreeMap<u64, u64> {
    let truth = &world.device.truth;
    let mut steps: BTreeMap<Uuid, usize> = BTreeMap::new();
    for step in &truth.steps[base..] {
        *steps.entry(step.uuid).or_default() += 1;
    }
    let mut lacking = BTreeMap::new();
    for (uuid, steps) in steps {
        let states = &truth.states[&uuid];
        // Of a guest who was there when the box was first read a story is told: that they came, and were paged since.
        let before = states.iter().rev().find(|(after, _)| *after <= base);
        let came_unpaged = states[0].1.notified.is_none();
        let story = before.map_or(0, |(_, session)| {
            1 + usize::from(session.notified.is_some() && came_unpaged)
        });
        let told = told.get(&uuid).map_or(0, |told| told.saturating_sub(story));
        if steps > told {
            *lacking.entry(truth.sessions[&uuid].id).or_default() += (steps - told) as u64;
        }
    }
    lacking
}

/// A guest comes once and goes once, and nothing is told more often than it happened.
fn check_story(world: &World<'_>, uuid: Uuid, told: &[&str]) {
    let count = |name: &str| told.iter().filter(|what| **what == name).count();
    let is_end = |what: &&str| matches!(*what, "cleared" | "removed");
    let steps = world
        .device
        .truth
        .steps
        .iter()
        .filter(|step| step.uuid == uuid);
    let (pages, updates) = steps.fold((0, 0), |(pages, updates), step| {
        (
            pages + usize::from(step.pages),
            updates + usize::from(step.updates),
        )
    });
    assert!(count("created") <= 1, "{uuid} came twice: {told:?}");
    assert!(
        count("paged") <= pages,
        "{uuid} was paged {pages} times: {told:?}"
    );
    assert!(
        count("updated") <= updates,
        "{uuid} was changed {updates} times: {told:?}"
    );
    if let Some(end) = told.iter().position(is_end) {
        assert_eq!(end + 1, told.len(), "{uuid} ended before the end: {told:?}");
    }
    let known = ["created", "paged", "updated", "cleared", "removed"];
    assert!(
        told.iter().all(|what| known.contains(what)),
        "{uuid}: {told:?}"
    );
}

/// What the box still knows, the cloud knows too; what it does not know any more is over.
fn check_states(world: &World<'_>, stored: &BTreeMap<Uuid, &Stored>) {
    let truth = &world.device.truth;
    let own = &world.device.snapshot().sessions;
    for session in own {
        let Some(stored) = stored.get(&session.uuid) else {
            panic!("the cloud does not have {session:?}");
        };
        assert_eq!(
            describe_stored(stored),
            describe(session),
            "{}",
            session.uuid
        );
        if world.plan.is_calm {
            let base = world.base.unwrap_or_default();
            let is_new = truth.states[&session.uuid][0].0 > base;
            let pairs = [
                (stored.facts.notified, session.notified),
                (stored.facts.cleared, session.cleared),
            ];
            for (told, stamp) in pairs {
                let off = told
                    .zip(stamp)
                    .map(|(told, stamp)| (told - stamp.utc).abs());
                let is_near = off.is_none_or(|off| off <= TOLERANCE);
                assert!(is_near || !is_new, "{} is off by {off:?}", session.uuid);
            }
        }
    }
    let own: BTreeSet<Uuid> = own.iter().map(|session| session.uuid).collect();
    for (uuid, stored) in stored.iter().filter(|(uuid, _)| !own.contains(*uuid)) {
        assert!(
            !stored.active,
            "{uuid} is over, but the cloud has it as active"
        );
        let how = truth.sessions[uuid].clear_type.map(clear_type);
        let is_so = stored.facts.clear_type.is_none() || stored.facts.clear_type == how;
        assert!(is_so, "{uuid} ended as {how:?}");
    }
}

type Description = (
    u64,
    u16,
    u32,
    u32,
    Option<String>,
    PagerState,
    bool,
    bool,
    Option<ClearType>,
);

fn describe(session: &Session) -> Description {
    (
        session.id,
        session.number,
        session.party_size,
        session.goal_seconds,
        session.label.clone(),
        match session.state {
            State::Started => PagerState::Started,
            State::Paged => PagerState::Paged,
            State::Cleared => PagerState::Cleared,
        },
        session.notified.is_some(),
        session.cleared.is_some(),
        session.clear_type.map(clear_type),
    )
}

fn describe_stored(stored: &Stored) -> Description {
    let facts = &stored.facts;
    (
        facts.id,
        facts.number,
        facts.party_size,
        facts.goal_seconds,
        stored.label.clone(),
        facts.state,
        facts.notified.is_some(),
        facts.cleared.is_some(),
        facts.clear_type,
    )
}

fn clear_type(how: rollcall_pager::ClearType) -> ClearType {
    match how {
        rollcall_pager::ClearType::Stop => ClearType::Stop,
        rollcall_pager::ClearType::Removed => ClearType::Removed,
    }
}
