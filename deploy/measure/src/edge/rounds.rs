//! The interleaved rounds.

use super::measured::{BULK, Kind, Measured};
use super::network::Underlay;
use super::peers::{Peer, Proxy, Way};
use super::proxies::CONNECTIONS;
use super::scene::{Scene, Target};
use super::turn::{Job, Work};
use super::{IDLE, Part, Plan, SLOW};
use crate::machine::Watch;
use crate::process;

pub(super) async fn measure(scene: &Scene, plan: &Plan) -> Measured {
    let mut measured = Measured::default();
    // First, while the programs' memory has held nothing else.
    if plan.parts.contains(&Part::Idle) {
        idle(scene, plan.idle, &mut measured).await;
    }
    for round in 0..plan.rounds {
        crate::tell(&format!("round {} of {}", round + 1, plan.rounds));
        let watch = Watch::of(|| process::times_of_all().all());
        for part in &plan.parts {
            for kind in kinds(*part, plan) {
                for target in order(&scene.targets, round).filter(|target| takes_part(*part, target.peer)) {
                    turn(scene, plan, target, kind, &mut measured).await;
                }
            }
        }
        measured.others.extend(watch.others());
    }
    measured
}

async fn turn(scene: &Scene, plan: &Plan, target: &Target, kind: Kind, measured: &mut Measured) {
    if !scene.network.has(kind.underlay) {
        return;
    }
    let turn = scene.turn(target, job(plan, kind)).await;
    if let Err(error) = &turn {
        let trouble = format!("A turn is left out: {}, {:?} ({:?}): {error:#}.", target.peer, kind.work, kind.underlay);
        crate::tell(&trouble);
        measured.troubles.push(trouble);
    }
    measured.push(target.peer, kind, turn.ok());
}

async fn idle(scene: &Scene, count: usize, measured: &mut Measured) {
    let is_set_up = |peer: Peer| count <= CONNECTIONS || peer.proxy() == Proxy::Gateway;
    for target in scene.targets.iter().filter(|target| takes_part(Part::Idle, target.peer) && is_set_up(target.peer)) {
        crate::tell(&format!("{count} idle connections: {}", target.peer));
        match scene.idle(target, count).await {
            Ok(memory) => drop(measured.idle.insert(target.peer, memory)),
            Err(error) => measured.troubles.push(format!("No memory: {}: {error:#}.", target.peer)),
        }
    }
}

/// Everybody takes a turn; the next round begins with another.
fn order(targets: &[Target], round: usize) -> impl Iterator<Item = &Target> {
    targets.iter().cycle().skip(round % targets.len().max(1)).take(targets.len())
}

/// What a part of the benchmark consists of. Memory is looked at only once.
pub(super) fn kinds(part: Part, plan: &Plan) -> Vec<Kind> {
    let on = |works: &[Work], underlay| works.iter().map(|work| Kind { work: *work, underlay }).collect();
    match part {
        Part::Idle => Vec::new(),
        Part::Bulk => on(&BULK, Underlay::Cable),
        Part::Split => on(&BULK, Underlay::Splitting),
        Part::Connections => on(&[Work::Connect], Underlay::Cable),
        Part::Requests => on(&[Work::Request], Underlay::Cable),
        Part::Netstack => on(&[Work::Beside(0), Work::Beside(IDLE)], Underlay::Cable),
        Part::Slow => on(&[Work::Amid(0), Work::Amid(SLOW)], Underlay::Cable),
        Part::Lossy => on(&[Work::Down(plan.lossy_connections)], Underlay::Lossy),
    }
}

/// Whether a part says something about somebody that is worth its time.
pub(super) fn takes_part(part: Part, peer: Peer) -> bool {
    match part {
        Part::Bulk | Part::Connections | Part::Requests => peer != Peer::GatewayNetstack,
        Part::Netstack => peer == Peer::GatewayNetstack,
        // One that is compared, and one that it is compared with.
        Part::Split => matches!(peer, Peer::Gateway | Peer::HaproxyWireguardGo),
        Part::Lossy => matches!(peer, Peer::Gateway | Peer::Haproxy),
        Part::Slow => peer == Peer::Gateway,
        // Tunnels know of no connections, so one of each proxy's is enough.
        Part::Idle => peer.way() == Way::Plain || peer == Peer::Gateway,
    }
}

fn job(plan: &Plan, kind: Kind) -> Job {
    let Kind { work, underlay } = kind;
    let (warm_up, turn) = match underlay {
        Underlay::Cable | Underlay::Splitting => (plan.warm_up, plan.turn),
        Underlay::Lossy => (plan.lossy_warm_up, plan.lossy_turn),
    };
    Job { work, underlay, warm_up, turn }
}
