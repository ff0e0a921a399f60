//! Walks of a grid through random work and random faults: what the operator does never makes a second pod go down, and in the end
//! everything is as it should be.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::observed::{GridView, MemberView, Observed, PodSet, PodView, Safety, Voters, Wanted};
use super::{Step, decide};
use crate::api::UpgradeStrategy;

/// What happens to the grid from outside.
#[derive(Debug, Clone)]
enum Happening {
    Resize(u32),
    NewTemplate {
        is_good: bool,
    },
    Pause(bool),
    Crash(usize),
    /// Time passes: this many turns of the operator and of everything else.
    Turns(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1_u32..6).prop_map(Happening::Resize),
        3 => prop::bool::weighted(0.8).prop_map(|is_good| Happening::NewTemplate { is_good }),
        1 => any::<bool>().prop_map(Happening::Pause),
        2 => (0_usize..6).prop_map(Happening::Crash),
        6 => (1_usize..12).prop_map(Happening::Turns),
    ]
}

/// How far a pod has come since it was made, or since it was told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    /// It joins when the next turn is over, unless its template is bad.
    Running,
    Member,
    /// It hands over, and is gone after a turn.
    Leaving,
}

#[derive(Debug, Clone)]
struct Pod {
    template: usize,
    life: Life,
    node: u64,
}

/// A cluster and a grid that do what they are told, a turn later.
#[derive(Debug)]
struct World {
    wanted: Wanted,
    templates: Vec<bool>,
    replicas: Option<u32>,
    pods: BTreeMap<u32, Pod>,
    arbiter: Option<Pod>,
    has_arbiter: bool,
    founded: bool,
    /// Turns until all copies are made.
    copying: usize,
    voters: usize,
    gone: Vec<u64>,
    nodes: u64,
}

impl World {
    fn new(size: u32) -> Self {
        let wanted = Wanted { size, arbiter: size == 2, strategy: UpgradeStrategy::ByPod, paused: false };
        Self {
            wanted,
            templates: vec![true],
            replicas: None,
            pods: BTreeMap::new(),
            arbiter: None,
            has_arbiter: false,
            founded: false,
            copying: 0,
            voters: 0,
            gone: Vec::new(),
            nodes: 0,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().chain(&self.arbiter)
    }

    fn members(&self) -> usize {
        self.all().filter(|pod| pod.life == Life::Member).count()
    }

    fn observed(&self) -> Observed {
        let view = |name: String, ordinal, pod: &Pod| PodView {
            name,
            ordinal,
            outdated: pod.template + 1 != self.templates.len(),
            ready: pod.life == Life::Member,
            running: pod.life != Life::Starting && self.templates[pod.template],
            leaving: pod.life == Life::Leaving,
            listed: pod.life == Life::Member || self.gone.contains(&pod.node),
            member: (pod.life == Life::Member).then(|| MemberView {
                node: pod.node,
                zone: String::new(),
                votes: false,
                leads: false,
            }),
        };
        let pods = self.pods.iter().map(|(at, pod)| view(format!("g-{at}"), *at, pod)).collect();
        let arbiter = self.arbiter.iter().map(|pod| view("arbiter".to_owned(), 0, pod)).collect();
        let members = self.members();
        let safety = if self.copying > 0 { Safety::Unsafe { why: "copying".into() } } else { Safety::Safe };
        let voters = Voters { voting: self.voters, wanted: self.voters_wanted() };
        Observed {
            wanted: self.wanted.clone(),
            founded: self.founded,
            nodes: self.replicas.map(|replicas| PodSet { replicas, is_seen: true, pods }),
            arbiter: self.has_arbiter.then_some(PodSet { replicas: 1, is_seen: true, pods: arbiter }),
            grid: if members == 0 {
                GridView::Unknown { why: "nobody answers".into() }
            } else {
                GridView::Known { safety, voters, gone: self.gone.clone(), unreachable: 0 }
            },
        }
    }

    fn voters_wanted(&self) -> usize {
        Voters::wanted(self.members(), self.members() + self.gone.len())
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Resize(size) => {
                self.wanted.size = *size;
                self.wanted.arbiter = *size == 2;
            }
            Happening::NewTemplate { is_good } => self.templates.push(*is_good),
            Happening::Pause(paused) => self.wanted.paused = *paused,
            Happening::Crash(at) => self.crash(*at),
            Happening::Turns(turns) => (0..*turns).for_each(|_| self.turn()),
        }
    }

    /// One at a time, of a grid that bears it: what dies with its last copy is not the operator's doing.
    fn crash(&mut self, at: usize) {
        if self.copying > 0 || self.members() < 2 || !self.gone.is_empty() {
            return;
        }
        let mut members = self.pods.values_mut().filter(|pod| pod.life == Life::Member);
        if let Some(pod) = members.nth(at) {
            self.gone.push(pod.node);
            pod.life = Life::Starting;
            self.copying = 3;
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
        let serving = taken.iter().filter(|pod| pod.member.is_some()).count();
        assert!(serving <= 1, "{step:?} takes {serving} members away");
        if serving == 1 {
            assert_eq!(self.copying, 0, "{step:?} while copies are made");
            assert!(observed.pods().all(|pod| pod.ready && !pod.leaving), "{step:?} while a pod is down");
            assert_eq!(self.voters, self.voters_wanted(), "{step:?} while votes move");
            assert!(self.members() > 1, "{step:?} takes the last member");
        }
        if let (Step::SetReplicas(replicas), Some(now)) = (step, self.replicas) {
            assert_eq!(replicas.abs_diff(now), 1, "more than one pod at a time");
        }
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
        let before = self.members();
        self.pods.retain(|_, pod| pod.life != Life::Leaving);
        if self.arbiter.as_ref().is_some_and(|pod| pod.life == Life::Leaving) {
            self.arbiter = None;
        }
        let template = self.templates.len() - 1;
        for pod in self.pods.values_mut().chain(&mut self.arbiter) {
            pod.life = match pod.life {
                Life::Starting => Life::Running,
                Life::Running if self.templates[pod.template] => {
                    self.nodes += 1;
                    pod.node = self.nodes;
                    Life::Member
                }
                other => other,
            };
        }
        for ordinal in 0..self.replicas.unwrap_or_default() {
            self.pods.entry(ordinal).or_insert(Pod { template, life: Life::Starting, node: 0 });
        }
        if self.has_arbiter && self.arbiter.is_none() {
            self.arbiter = Some(Pod { template, life: Life::Starting, node: 0 });
        }
        if self.members() != before {
            self.copying = 3;
        } else if self.copying == 0 {
            self.voters = self.voters_wanted();
        }
        self.founded |= self.members() > 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_grid_is_never_in_danger_and_comes_to_rest(
        size in 1_u32..6,
        happenings in prop::collection::vec(happening(), 0..24),
    ) {
        let mut world = World::new(size);
        happenings.iter().for_each(|happening| world.happen(happening));
        // Whatever was asked for, a good template is asked for in the end.
        world.happen(&Happening::NewTemplate { is_good: true });
        world.happen(&Happening::Pause(false));
        world.happen(&Happening::Turns(400));
        let observed = world.observed();
        prop_assert_eq!(decide(&observed), Step::Rest, "{:?}", world);
        prop_assert_eq!(world.replicas, Some(world.wanted.size));
        prop_assert!(world.all().all(|pod| pod.template + 1 == world.templates.len()));
        prop_assert_eq!(world.has_arbiter, world.wanted.arbiter);
    }
}
