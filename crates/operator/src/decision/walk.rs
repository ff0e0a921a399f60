//! Walks of a grid through random work and random faults: what the operator does never makes a second pod go down, or a second zone, and in
//! the end everything is as it should be.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::observed::{GridView, MemberView, Observed, PodSet, PodView, Safety, Voters, Wanted};
use super::{Step, decide};
use crate::api::UpgradeStrategy;

/// What happens to the grid from outside.
#[derive(Debug, Clone)]
enum Happening {
    Resize(u32),
    NewTemplate(Template),
    Pause(bool),
    /// Pods that are made from now on run in these zones, by their place.
    Move(Zones),
    /// Others vote from now on, and another one of them leads.
    Elect(usize),
    Crash(usize),
    /// Some partition is held by none of those who are ready, for so many turns.
    Doubt(usize),
    /// Time passes: this many turns of the operator and of everything else.
    Turns(usize),
}

/// What becomes of a pod that is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Template {
    Good,
    /// Its process ends at once.
    Dead,
    /// It joins, and never has all its copies.
    Behind,
}

fn template() -> impl Strategy<Value = Template> {
    prop_oneof![8 => Just(Template::Good), 1 => Just(Template::Dead), 1 => Just(Template::Behind)]
}

/// The arbiter's is the last one. A name without letters is no zone.
type Zones = [&'static str; 7];

fn zones() -> impl Strategy<Value = Zones> {
    prop::array::uniform7(prop::sample::select(vec!["", "a", "a", "b", "b", "c"]))
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1_u32..6).prop_map(Happening::Resize),
        3 => template().prop_map(Happening::NewTemplate),
        1 => any::<bool>().prop_map(Happening::Pause),
        1 => zones().prop_map(Happening::Move),
        1 => (0_usize..6).prop_map(Happening::Elect),
        2 => (0_usize..6).prop_map(Happening::Crash),
        1 => (1_usize..6).prop_map(Happening::Doubt),
        6 => (1_usize..12).prop_map(Happening::Turns),
    ]
}

/// How far a pod has come since it was made, or since it was told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    /// It joins when the next turn is over, unless its template is bad.
    Running,
    /// A member without all its copies, for ever.
    Behind,
    /// A ready one.
    Member,
    /// It hands over, and is gone after a turn.
    Leaving,
}

#[derive(Debug, Clone)]
struct Pod {
    template: usize,
    life: Life,
    node: u64,
    zone: &'static str,
}

impl Pod {
    fn starting(template: usize, zone: &'static str) -> Self {
        Self { template, life: Life::Starting, node: 0, zone }
    }

    fn is_member(&self) -> bool {
        matches!(self.life, Life::Behind | Life::Member)
    }
}

/// A cluster and a grid that do what they are told, a turn later.
#[derive(Debug)]
struct World {
    wanted: Wanted,
    templates: Vec<Template>,
    replicas: Option<u32>,
    pods: BTreeMap<u32, Pod>,
    arbiter: Option<Pod>,
    has_arbiter: bool,
    founded: bool,
    /// Turns until all copies are made.
    copying: usize,
    /// Turns until those who are ready hold everything.
    doubt: usize,
    /// The first one leads.
    voters: Vec<u64>,
    /// Changes who votes.
    election: usize,
    /// Of pods that are made.
    zones: Zones,
    gone: Vec<u64>,
    nodes: u64,
}

impl World {
    fn new(size: u32, strategy: UpgradeStrategy, zones: Zones) -> Self {
        let wanted = Wanted { size, arbiter: size == 2, strategy, paused: false };
        Self {
            wanted,
            templates: vec![Template::Good],
            replicas: None,
            pods: BTreeMap::new(),
            arbiter: None,
            has_arbiter: false,
            founded: false,
            copying: 0,
            doubt: 0,
            voters: Vec::new(),
            election: 0,
            zones,
            gone: Vec::new(),
            nodes: 0,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().chain(&self.arbiter)
    }

    fn members(&self) -> usize {
        self.all().filter(|pod| pod.is_member()).count()
    }

    fn ready(&self) -> usize {
        self.all().filter(|pod| pod.life == Life::Member).count()
    }

    /// Whether nothing is lost if all who are not ready die.
    fn ready_suffice(&self) -> bool {
        self.ready() > 0 && self.doubt == 0
    }

    fn observed(&self) -> Observed {
        let view = |name: String, ordinal, pod: &Pod| PodView {
            name,
            ordinal,
            outdated: pod.template + 1 != self.templates.len(),
            ready: pod.life == Life::Member,
            running: pod.life != Life::Starting && self.templates[pod.template] != Template::Dead,
            leaving: pod.life == Life::Leaving,
            listed: pod.is_member() || self.gone.contains(&pod.node),
            member: pod.is_member().then(|| MemberView {
                node: pod.node,
                zone: pod.zone.to_owned(),
                votes: self.voters.contains(&pod.node),
                leads: self.voters.first() == Some(&pod.node),
            }),
        };
        let pods = self.pods.iter().map(|(at, pod)| view(format!("g-{at}"), *at, pod)).collect();
        let arbiter = self.arbiter.iter().map(|pod| view("arbiter".to_owned(), 0, pod)).collect();
        let members = self.members();
        let safety = if self.copying > 0 { Safety::Unsafe { why: "copying".into() } } else { Safety::Safe };
        let voters = Voters { voting: self.voters.len(), wanted: self.voters_wanted() };
        Observed {
            wanted: self.wanted.clone(),
            founded: self.founded,
            nodes: self.replicas.map(|replicas| PodSet { replicas, is_seen: true, pods }),
            arbiter: self.has_arbiter.then_some(PodSet { replicas: 1, is_seen: true, pods: arbiter }),
            grid: if members == 0 {
                GridView::Unknown { why: "nobody answers".into() }
            } else {
                let (gone, ready_suffice) = (self.gone.clone(), self.ready_suffice());
                GridView::Known { safety, voters, gone, missed: 0, ready_suffice }
            },
        }
    }

    fn voters_wanted(&self) -> usize {
        Voters::wanted(self.members(), self.members() + self.gone.len())
    }

    /// Who lives votes first, and of those anybody.
    fn elect(&self) -> Vec<u64> {
        let mut living: Vec<u64> = self.all().filter(|pod| pod.is_member()).map(|pod| pod.node).collect();
        let turned = self.election % living.len().max(1);
        living.rotate_left(turned);
        living.into_iter().chain(self.gone.iter().copied()).take(self.voters_wanted()).collect()
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Resize(size) => {
                self.wanted.size = *size;
                self.wanted.arbiter = *size == 2;
            }
            Happening::NewTemplate(template) => self.templates.push(*template),
            Happening::Move(zones) => self.zones = *zones,
            Happening::Elect(election) => self.election = *election,
            Happening::Pause(paused) => self.wanted.paused = *paused,
            Happening::Crash(at) => self.crash(*at),
            Happening::Doubt(turns) => self.doubt = *turns,
            Happening::Turns(turns) => (0..*turns).for_each(|_| self.turn()),
        }
    }

    /// One at a time, of a grid that bears it: what dies with its last copy is not the operator's doing.
    fn crash(&mut self, at: usize) {
        if self.copying > 0 || self.ready() < 2 || !self.gone.is_empty() {
            return;
        }
        let mut members = self.pods.values_mut().filter(|pod| pod.life == Life::Member);
        if let Some(pod) = members.nth(at) {
            self.gone.push(pod.node);
            pod.life = Life::Starting;
            self.copying = 3;
            self.doubt = 2;
        }
    }

    fn turn(&mut self) {
        let observed = self.observed();
        let step = decide(&observed);
        self.judge(&observed, &step);
        self.carry_out(&step);
        self.pass();
    }

    /// What a step may not do.
    fn judge(&self, observed: &Observed, step: &Step) {
        let taken: Vec<&PodView> = match step {
            Step::Replace(pods) => observed.pods().filter(|pod| pods.contains(&pod.name)).collect(),
            Step::SetReplicas(replicas) => observed
                .nodes
                .iter()
                .flat_map(|set| &set.pods)
                .filter(|pod| pod.ordinal >= *replicas)
                .collect(),
            Step::RemoveArbiter => observed.arbiter.iter().flat_map(|set| &set.pods).collect(),
            Step::AddArbiter | Step::Forget(_) | Step::Wait(_) | Step::Rest => Vec::new(),
        };
        if !self.founded {
            return;
        }
        let members = taken.iter().filter(|pod| pod.member.is_some());
        let (ready, behind): (Vec<&PodView>, Vec<&PodView>) = members.partition(|pod| pod.ready);
        assert!(behind.is_empty() || self.ready_suffice(), "{step:?} takes what others lack");
        if !ready.is_empty() {
            assert_eq!(self.copying, 0, "{step:?} while copies are made");
            assert!(observed.pods().all(|pod| pod.ready && !pod.leaving), "{step:?} while a pod is down");
            assert_eq!(self.voters.len(), self.voters_wanted(), "{step:?} while votes move");
            let stays = |pod: &&PodView| !ready.contains(pod);
            let data = observed.nodes.iter().flat_map(|set| &set.pods).filter(stays).count();
            assert!(data > 0, "{step:?} takes the last member that holds data");
        }
        if ready.len() > 1 {
            self.judge_zone(observed, &ready);
        }
        if let (Step::SetReplicas(replicas), Some(now)) = (step, self.replicas) {
            assert_eq!(replicas.abs_diff(now), 1, "more than one pod at a time");
        }
    }

    /// Several members go only together with their zone, and the others can do without it.
    fn judge_zone(&self, observed: &Observed, taken: &[&PodView]) {
        let members = |pod: &PodView| pod.member.clone();
        assert_eq!(self.wanted.strategy, UpgradeStrategy::ByZone, "{taken:?} go together");
        let zones: BTreeSet<String> = taken.iter().filter_map(|pod| Some(members(pod)?.zone)).collect();
        assert!(zones.len() == 1 && !zones.contains(""), "{taken:?} are in {zones:?}");
        let is_lost = |pod: &PodView| members(pod).is_some_and(|member| zones.contains(&member.zone));
        let holds_data = observed.nodes.iter().flat_map(|set| &set.pods).any(|pod| !is_lost(pod));
        assert!(holds_data, "all data is in {zones:?}");
        let votes: Vec<&PodView> =
            observed.pods().filter(|pod| members(pod).is_some_and(|member| member.votes)).collect();
        let left = votes.iter().filter(|pod| !is_lost(pod)).count();
        assert!(left * 2 > votes.len(), "{left} of {} voters are left without {zones:?}", votes.len());
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::SetReplicas(replicas) => {
                self.replicas = Some(*replicas);
                self.pods.range_mut(*replicas..).for_each(|(_, pod)| pod.life = Life::Leaving);
            }
            Step::AddArbiter => self.has_arbiter = true,
            Step::RemoveArbiter => {
                self.has_arbiter = false;
                self.arbiter = None;
                self.copying = 1;
            }
            Step::Replace(pods) => {
                let named = self.pods.iter_mut().filter(|(at, _)| pods.contains(&format!("g-{at}")));
                named.for_each(|(_, pod)| pod.life = Life::Leaving);
                if let Some(pod) = self.arbiter.as_mut().filter(|_| pods.contains(&"arbiter".to_owned())) {
                    pod.life = Life::Leaving;
                }
            }
            Step::Forget(node) => self.gone.retain(|gone| gone != node),
            Step::Wait(_) | Step::Rest => {}
        }
    }

    /// The cluster makes pods, pods join and leave, copies are made, votes move: one thing at a time.
    fn pass(&mut self) {
        self.copying = self.copying.saturating_sub(1);
        self.doubt = self.doubt.saturating_sub(1);
        let before = self.members();
        self.pods.retain(|_, pod| pod.life != Life::Leaving);
        if self.arbiter.as_ref().is_some_and(|pod| pod.life == Life::Leaving) {
            self.arbiter = None;
        }
        let template = self.templates.len() - 1;
        for pod in self.pods.values_mut().chain(&mut self.arbiter) {
            pod.life = match pod.life {
                Life::Starting => Life::Running,
                Life::Running if self.templates[pod.template] != Template::Dead => {
                    self.nodes += 1;
                    pod.node = self.nodes;
                    // In an empty grid there is nothing to copy.
                    let is_behind = self.templates[pod.template] == Template::Behind && self.founded;
                    if is_behind { Life::Behind } else { Life::Member }
                }
                other => other,
            };
        }
        for ordinal in 0..self.replicas.unwrap_or_default() {
            let zone = self.zones[ordinal as usize];
            self.pods.entry(ordinal).or_insert_with(|| Pod::starting(template, zone));
        }
        if self.has_arbiter && self.arbiter.is_none() {
            self.arbiter = Some(Pod::starting(template, self.zones[6]));
        }
        if self.all().any(|pod| pod.life == Life::Behind) {
            self.copying = self.copying.max(1);
        }
        if self.members() != before {
            self.copying = 3;
        } else if self.copying == 0 {
            self.voters = self.elect();
        }
        self.founded |= self.members() > 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_grid_is_never_in_danger_and_comes_to_rest(
        size in 1_u32..6,
        strategy in prop::sample::select(vec![UpgradeStrategy::ByPod, UpgradeStrategy::ByZone]),
        zones in zones(),
        happenings in prop::collection::vec(happening(), 0..24),
    ) {
        let mut world = World::new(size, strategy, zones);
        happenings.iter().for_each(|happening| world.happen(happening));
        // Whatever was asked for, a good template is asked for in the end.
        world.happen(&Happening::NewTemplate(Template::Good));
        world.happen(&Happening::Pause(false));
        world.happen(&Happening::Turns(400));
        let observed = world.observed();
        prop_assert_eq!(decide(&observed), Step::Rest, "{:?}", world);
        prop_assert_eq!(world.replicas, Some(world.wanted.size));
        prop_assert!(world.all().all(|pod| pod.template + 1 == world.templates.len()));
        prop_assert_eq!(world.has_arbiter, world.wanted.arbiter);
    }
}
