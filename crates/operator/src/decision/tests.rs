//! Single decisions. Whole walks are in `walk.rs`.

use super::*;
use crate::api::UpgradeStrategy;

pub(super) fn pod(ordinal: u32) -> PodView {
    PodView {
        name: format!("g-{ordinal}"),
        ordinal,
        outdated: false,
        ready: true,
        running: true,
        leaving: false,
        listed: true,
        member: Some(member(u64::from(ordinal) + 1)),
    }
}

fn member(node: u64) -> MemberView {
    MemberView { node, zone: String::new(), votes: false, leads: false }
}

fn set(pods: Vec<PodView>) -> PodSet {
    PodSet { replicas: u32::try_from(pods.len()).unwrap(), is_seen: true, pods }
}

fn sound(voters: usize) -> GridView {
    GridView::Known {
        safety: Safety::Safe,
        voters: Voters { voting: voters, wanted: voters },
        gone: Vec::new(),
        missed: 0,
        ready_suffice: false,
    }
}

fn self_sufficient(observed: &mut Observed) {
    let GridView::Known { ready_suffice, .. } = &mut observed.grid else { panic!("the grid was asked") };
    *ready_suffice = true;
}

type Change = fn(&mut Observed);

/// A grid of so many pods at rest.
fn resting(size: u32) -> Observed {
    Observed {
        wanted: Wanted { size, arbiter: false, strategy: UpgradeStrategy::ByPod, paused: false },
        founded: true,
        nodes: Some(set((0..size).map(pod).collect())),
        arbiter: None,
        grid: sound(3),
    }
}

fn changed(size: u32, change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = resting(size);
    change(&mut observed);
    observed
}

fn nodes(observed: &mut Observed) -> &mut PodSet {
    observed.nodes.as_mut().unwrap()
}

fn arbiter() -> PodSet {
    let pod = PodView { name: "g-arbiter-0".into(), member: Some(member(99)), ..pod(0) };
    set(vec![pod])
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
fn check(observed: &Observed, expected: Step) {
    assert_eq!(decide(observed), expected);
}

fn down(pod: &mut PodView) {
    pod.ready = false;
    pod.running = false;
    pod.listed = false;
    pod.member = None;
}

#[test]
fn a_grid_as_it_should_be_rests() {
    for size in 1..7 {
        check(&resting(size), Step::Rest);
    }
}

#[test]
fn a_new_grid_starts_with_all_pods() {
    check(&changed(3, |grid| grid.nodes = None), Step::SetReplicas(3));
    let starting = changed(3, |grid| {
        grid.founded = false;
        nodes(grid).pods.iter_mut().for_each(down);
        grid.grid = GridView::Unknown { why: "nobody".into() };
    });
    check(&starting, Step::Wait(Waiting::NotFounded));
    let smaller =
        Observed { wanted: Wanted { size: 2, arbiter: true, ..starting.wanted.clone() }, ..starting };
    check(&smaller, Step::SetReplicas(2));
}

#[test]
fn before_it_is_founded_a_grid_is_put_right_at_once() {
    let broken = changed(3, |grid| {
        grid.founded = false;
        nodes(grid).pods.iter_mut().for_each(|pod| {
            down(pod);
            pod.outdated = true;
        });
    });
    check(&broken, Step::Replace(vec!["g-0".into(), "g-1".into(), "g-2".into()]));
    let mut running = broken;
    nodes(&mut running).pods.iter_mut().for_each(|pod| pod.running = true);
    check(&running, Step::Replace(vec!["g-0".into()]));
}

#[test]
fn scaling_goes_one_pod_at_a_time() {
    check(&changed(3, |grid| grid.wanted.size = 5), Step::SetReplicas(4));
    check(&changed(5, |grid| grid.wanted.size = 3), Step::SetReplicas(4));
}

#[test]
fn nothing_is_done_to_a_grid_that_is_not_sound() {
    let obstacles: [(Change, Waiting); 9] = [
        (|grid| nodes(grid).is_seen = false, Waiting::SetNotSeen),
        (|grid| nodes(grid).pods[1].leaving = true, Waiting::PodLeaving { pod: "g-1".into() }),
        (|grid| nodes(grid).replicas = 2, Waiting::PodLeaving { pod: "g-2".into() }),
        (|grid| nodes(grid).pods[0].ready = false, Waiting::PodNotReady { pod: "g-0".into() }),
        (|grid| drop(nodes(grid).pods.remove(1)), Waiting::PodsMissing { found: 2, wanted: 3 }),
        (|grid| nodes(grid).pods[2].member = None, Waiting::NotAMember { pod: "g-2".into() }),
        (
            |grid| grid.grid = GridView::Unknown { why: "silence".into() },
            Waiting::GridUnknown { why: "silence".into() },
        ),
        (
            |grid| {
                let GridView::Known { safety, .. } = &mut grid.grid else { return };
                *safety = Safety::Unsafe { why: "copies are missing".into() };
            },
            Waiting::NotSafe { why: "copies are missing".into() },
        ),
        (
            |grid| {
                let GridView::Known { voters, .. } = &mut grid.grid else { return };
                *voters = Voters { voting: 1, wanted: 3 };
            },
            Waiting::Voters { voting: 1, wanted: 3 },
        ),
    ];
    for (obstacle, waiting) in obstacles {
        for work in [
            (|_| {}) as Change,
            |grid| grid.wanted.size = 4,
            |grid| nodes(grid).pods[0].outdated = true,
            |grid| grid.wanted.arbiter = true,
        ] {
            let observed = changed(3, |grid| {
                obstacle(grid);
                work(grid);
            });
            check(&observed, Step::Wait(waiting.clone()));
        }
    }
}

#[test]
fn the_leader_is_upgraded_last_and_the_others_from_the_end() {
    let outdated = |which: &[usize]| {
        changed(3, |grid| {
            let pods = &mut nodes(grid).pods;
            which.iter().for_each(|at| pods[*at].outdated = true);
            pods[2].member.as_mut().unwrap().leads = true;
        })
    };
    check(&outdated(&[0, 1, 2]), Step::Replace(vec!["g-1".into()]));
    check(&outdated(&[0, 2]), Step::Replace(vec!["g-0".into()]));
    check(&outdated(&[2]), Step::Replace(vec!["g-2".into()]));
}

#[test]
fn a_paused_upgrade_scales_and_replaces_nothing() {
    let paused = changed(3, |grid| {
        grid.wanted.paused = true;
        nodes(grid).pods[0].outdated = true;
    });
    check(&paused, Step::Wait(Waiting::Paused));
    let mut growing = paused.clone();
    growing.wanted.size = 4;
    check(&growing, Step::SetReplicas(4));
    let mut broken = paused;
    down(&mut nodes(&mut broken).pods[0]);
    check(&broken, Step::Wait(Waiting::PodNotReady { pod: "g-0".into() }));
}

#[test]
fn a_bad_upgrade_is_taken_back_although_the_grid_is_not_safe() {
    let broken = changed(3, |grid| {
        let pod = &mut nodes(grid).pods[2];
        down(pod);
        pod.outdated = true;
        grid.grid = GridView::Unknown { why: "silence".into() };
    });
    check(&broken, Step::Replace(vec!["g-2".into()]));
    // As long as it may be a member that holds the only copy of something, it stays.
    let mut running = broken;
    nodes(&mut running).pods[2].running = true;
    check(&running, Step::Wait(Waiting::PodNotReady { pod: "g-2".into() }));
    let mut silent = running.clone();
    silent.grid = sound(3);
    nodes(&mut silent).pods[2].listed = true;
    check(&silent, Step::Wait(Waiting::PodNotReady { pod: "g-2".into() }));
    let mut needless = silent.clone();
    self_sufficient(&mut needless);
    check(&needless, Step::Replace(vec!["g-2".into()]));
    nodes(&mut needless).pods[2].member = Some(member(3));
    check(&needless, Step::Replace(vec!["g-2".into()]));
    // As the spec says it should be: nothing better could come.
    nodes(&mut needless).pods[2].outdated = false;
    check(&needless, Step::Wait(Waiting::PodNotReady { pod: "g-2".into() }));
    let mut stranger = running;
    stranger.grid = sound(3);
    check(&stranger, Step::Replace(vec!["g-2".into()]));
}

#[test]
fn a_pod_that_never_came_up_can_be_scaled_away() {
    let stuck = changed(4, |grid| {
        grid.wanted.size = 3;
        down(&mut nodes(grid).pods[3]);
    });
    check(&stuck, Step::SetReplicas(3));
    let mut member = stuck;
    let pod = &mut nodes(&mut member).pods[3];
    *pod = PodView { ready: false, ..tests::pod(3) };
    check(&member, Step::Wait(Waiting::PodNotReady { pod: "g-3".into() }));
    self_sufficient(&mut member);
    check(&member, Step::SetReplicas(3));
}

#[test]
fn no_pod_is_taken_away_while_nobody_says_how_the_grid_is() {
    let crashing = changed(3, |grid| {
        grid.wanted.size = 1;
        nodes(grid).pods.iter_mut().for_each(down);
        grid.arbiter = Some(arbiter());
        down(&mut grid.arbiter.as_mut().unwrap().pods[0]);
        grid.grid = GridView::Unknown { why: "silence".into() };
    });
    check(&crashing, Step::Wait(Waiting::PodNotReady { pod: "g-0".into() }));
    let emptied = changed(3, |grid| {
        nodes(grid).replicas = 0;
        nodes(grid).pods.clear();
        grid.grid = GridView::Unknown { why: "silence".into() };
    });
    check(&emptied, Step::SetReplicas(3));
}

#[test]
fn a_lone_node_hands_over_to_a_second_one_while_it_is_replaced() {
    let lone = changed(1, |grid| nodes(grid).pods[0].outdated = true);
    check(&lone, Step::SetReplicas(2));
    let mut helped = lone;
    let set = nodes(&mut helped);
    set.pods.push(pod(1));
    set.replicas = 2;
    check(&helped, Step::Replace(vec!["g-0".into()]));
    nodes(&mut helped).pods[0].outdated = false;
    check(&helped, Step::SetReplicas(1));
}

#[test]
fn the_arbiter_comes_before_the_third_node_goes_and_goes_after_it_has_come() {
    let smaller = changed(3, |grid| {
        grid.wanted.size = 2;
        grid.wanted.arbiter = true;
    });
    check(&smaller, Step::AddArbiter);
    check(&Observed { arbiter: Some(arbiter()), ..smaller }, Step::SetReplicas(2));
    let larger = changed(2, |grid| {
        grid.wanted.size = 3;
        grid.arbiter = Some(arbiter());
    });
    check(&larger, Step::SetReplicas(3));
    check(&changed(3, |grid| grid.arbiter = Some(arbiter())), Step::RemoveArbiter);
    let broken = changed(3, |grid| {
        grid.arbiter = Some(arbiter());
        down(&mut grid.arbiter.as_mut().unwrap().pods[0]);
    });
    check(&broken, Step::RemoveArbiter);
    let outdated = changed(2, |grid| {
        grid.wanted.arbiter = true;
        grid.arbiter = Some(arbiter());
        grid.arbiter.as_mut().unwrap().pods[0].outdated = true;
    });
    check(&outdated, Step::Replace(vec!["g-arbiter-0".into()]));
}

#[test]
fn a_member_whose_pod_is_gone_is_forgotten_unless_it_is_missed() {
    let haunted = |missed| {
        changed(3, |grid| {
            grid.wanted.size = 2;
            let safety = Safety::Unsafe { why: "a member is gone".into() };
            let voters = Voters { voting: 3, wanted: 3 };
            grid.grid = GridView::Known { safety, voters, gone: vec![7], missed, ready_suffice: false };
        })
    };
    check(&haunted(0), Step::Forget(7));
    check(&haunted(4), Step::Wait(Waiting::MemberMissed { node: 7, partitions: 4 }));
}

#[test]
fn a_zone_goes_together_if_the_others_can_decide() {
    let zoned = |zones: &[&str], voting: &[usize]| {
        changed(u32::try_from(zones.len()).unwrap(), |grid| {
            grid.wanted.strategy = UpgradeStrategy::ByZone;
            for (at, pod) in nodes(grid).pods.iter_mut().enumerate() {
                pod.outdated = true;
                let member = pod.member.as_mut().unwrap();
                member.zone = zones[at].to_owned();
                member.votes = voting.contains(&at);
            }
        })
    };
    let both = Step::Replace(vec!["g-2".into(), "g-5".into()]);
    check(&zoned(&["a", "b", "c", "a", "b", "c"], &[0, 1, 2, 3, 4]), both);
    // Two of three voters are in zone b: they go one by one.
    check(&zoned(&["a", "b", "a", "b"], &[0, 1, 3]), Step::Replace(vec!["g-3".into()]));
    check(&zoned(&["a", "a", "a"], &[0, 1, 2]), Step::Replace(vec!["g-2".into()]));
    check(&zoned(&["", "", ""], &[0, 1, 2]), Step::Replace(vec!["g-2".into()]));
    // Who is elsewhere can decide, but holds nothing.
    let mut elsewhere = arbiter();
    elsewhere.pods[0].member = Some(MemberView { zone: "b".into(), votes: true, ..member(99) });
    let together = Observed { arbiter: Some(elsewhere), ..zoned(&["a", "a", "a"], &[]) };
    check(&together, Step::Replace(vec!["g-2".into()]));
}

#[test]
fn the_number_of_voters_is_odd() {
    let wanted = |answering, joined| Voters::wanted(answering, joined);
    assert_eq!([wanted(1, 1), wanted(2, 2), wanted(3, 3), wanted(4, 4), wanted(7, 7)], [1, 1, 3, 3, 5]);
    assert_eq!((wanted(2, 3), wanted(4, 5)), (3, 3), "the dead count until they are forgotten");
}
