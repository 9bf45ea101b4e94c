//! How much a fleet takes, by multiplication.

use super::costs::{Costs, Gateway, Sidecar};
use super::fleet::{BOUNDS, Bounds};

/// What is asked of a fleet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Demand {
    /// CVMs with a database, all of which are registered.
    pub(crate) instances: f64,
    /// Sessions that are open at once.
    pub(crate) sessions: f64,
    /// New connections a second.
    pub(crate) connections: f64,
    /// Small requests a second.
    pub(crate) requests: f64,
    /// GiB a second, both ways together.
    pub(crate) gib: f64,
}

/// What one gateway is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Machine {
    /// Processor cores.
    pub(crate) cores: f64,
    /// Memory, in MiB.
    pub(crate) memory_mib: f64,
    /// The part of both that may be taken.
    pub(crate) part: f64,
}

/// Something of which a gateway has only so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Need {
    /// What it is.
    pub(crate) what: &'static str,
    /// How much of it one gateway takes.
    pub(crate) taken: f64,
    /// How much there is.
    pub(crate) there: f64,
    /// How many decimals make sense.
    pub(crate) decimals: usize,
}

impl Need {
    /// The part that is taken: above 1, it is too little.
    pub(crate) fn part(&self) -> f64 {
        self.taken / self.there
    }
}

/// Processors that a gateway keeps busy.
pub(crate) fn cores(costs: &Gateway, demand: &Demand) -> f64 {
    let Gateway { base_cores, instance_us_per_second, connection_us, request, gib_s, .. } = costs;
    let each = demand.instances * instance_us_per_second
        + demand.connections * connection_us
        + demand.requests * request.us(demand.requests)
        + demand.gib * gib_s * 1e6;
    base_cores + each / 1e6
}

/// Memory that a gateway takes, in MiB.
pub(crate) fn memory_mib(costs: &Gateway, demand: &Demand) -> f64 {
    costs.base_mib + (demand.sessions * costs.session_kib + demand.instances * costs.instance_kib) / 1024.0
}

/// Processors that all sidecars together keep busy.
pub(crate) fn sidecar_cores(costs: &Sidecar, demand: &Demand) -> f64 {
    let of_one = demand.requests / demand.instances.max(1.0);
    let each = demand.connections * costs.connection_us + demand.requests * costs.request.us(of_one);
    demand.instances * costs.base_cores + each / 1e6
}

/// Memory that all sidecars together take on so many machines, in MiB: on each of them they share the pages of the program.
pub(crate) fn sidecar_memory_mib(costs: &Sidecar, demand: &Demand, machines: f64) -> f64 {
    machines * costs.shared_mib + demand.instances * costs.base_mib + demand.sessions * costs.session_kib / 1024.0
}

/// What each of so many gateways takes when they share the demand evenly, the scarcest first.
pub(crate) fn needs(gateway: &Gateway, demand: &Demand, machine: &Machine, gateways: f64) -> Vec<Need> {
    let share = Demand {
        instances: demand.instances / gateways,
        sessions: demand.sessions / gateways,
        connections: demand.connections / gateways,
        requests: demand.requests / gateways,
        gib: demand.gib / gateways,
    };
    let Bounds { sessions, registrations, workloads, addresses, .. } = BOUNDS;
    let need = |what, taken, there, decimals| Need { what, taken, there, decimals };
    let mut needs = vec![
        need("processors", cores(gateway, &share), machine.cores * machine.part, 2),
        need("memory, MiB", memory_mib(gateway, &share), machine.memory_mib * machine.part, 0),
        need("sessions (limits.connections)", share.sessions, f64::from(sessions), 0),
        need("registration connections (limits.registrations)", share.instances, f64::from(registrations), 0),
        need("followed workloads (chain.max_workloads)", share.instances, f64::from(workloads), 0),
        need("inner addresses (wireguard.network)", share.instances, f64::from(addresses), 0),
    ];
    needs.sort_by(|a, b| b.part().total_cmp(&a.part()));
    needs
}

/// The fewest gateways that suffice, when they are spread over so many regions and one of them may be lost; with a single
/// region, none may.
pub(crate) fn fewest(gateway: &Gateway, demand: &Demand, machine: &Machine, regions: u32) -> Option<u32> {
    let suffices = |left: u32| needs(gateway, demand, machine, f64::from(left)).iter().all(|need| need.part() <= 1.0);
    // What one gateway takes without any share never becomes less.
    let alone = Demand { instances: 0.0, sessions: 0.0, connections: 0.0, requests: 0.0, gib: 0.0 };
    if needs(gateway, &alone, machine, 1.0).iter().any(|need| need.part() > 1.0) {
        return None;
    }
    let (mut low, mut high) = (1u32, 1u32);
    while !suffices(left(high, regions)) {
        low = high;
        high = high.checked_mul(2)?;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if suffices(left(middle, regions)) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

/// How many gateways are left when the largest region is lost; of one region, all.
pub(crate) fn left(gateways: u32, regions: u32) -> u32 {
    if regions < 2 { gateways } else { (gateways - gateways.div_ceil(regions)).max(1) }
}

/// Questions a second to each chain endpoint without any change: every gateway looks at the head, and everybody is asked
/// about again once in a while, at moments spread over the second half of the interval.
pub(crate) fn questions(demand: &Demand, gateways: f64) -> f64 {
    let sweep = BOUNDS.sweep.as_secs_f64() * 0.75;
    gateways / BOUNDS.poll.as_secs_f64() + demand.instances / sweep
}

/// All numbers of a plan in one place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Size {
    pub(crate) gateways: u32,
    /// How many are left when a region is lost; what each needs is for then.
    pub(crate) left: u32,
    pub(crate) needs: Vec<Need>,
    pub(crate) sidecar_cores: f64,
    pub(crate) sidecar_memory_mib: f64,
    pub(crate) questions: f64,
}

/// Sizes a fleet of so many gateways.
pub(crate) fn size(
    costs: &Costs,
    gateway: &Gateway,
    demand: &Demand,
    machine: &Machine,
    (gateways, regions): (u32, u32),
) -> Size {
    let left = left(gateways, regions);
    Size {
        gateways,
        left,
        needs: needs(gateway, demand, machine, f64::from(left)),
        sidecar_cores: sidecar_cores(&costs.sidecar, demand),
        sidecar_memory_mib: sidecar_memory_mib(&costs.sidecar, demand, demand.instances),
        questions: questions(demand, f64::from(gateways)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::costs::Request;
    use super::*;

    fn gateway() -> Gateway {
        Gateway {
            base_mib: 20.0,
            session_kib: 4.0,
            instance_kib: 64.0,
            base_cores: 0.1,
            instance_us_per_second: 100.0,
            connection_us: 200.0,
            request: Request { busy_us: 40.0, waking_us: 20.0, half_awake: 10_000.0 },
            gib_s: 2.0,
        }
    }

    fn machine() -> Machine {
        Machine { cores: 4.0, memory_mib: 8192.0, part: 0.5 }
    }

    fn demand() -> Demand {
        Demand { instances: 1_000.0, sessions: 2_048.0, connections: 500.0, requests: 10_000.0, gib: 0.1 }
    }

    #[test]
    fn everything_is_counted_once() {
        assert!((cores(&gateway(), &demand()) - (0.1 + 0.1 + 0.1 + 0.5 + 0.2)).abs() < 1e-9);
        assert!((memory_mib(&gateway(), &demand()) - (20.0 + 8.0 + 62.5)).abs() < 1e-9);
        let needs = needs(&gateway(), &demand(), &machine(), 1.0);
        assert_eq!(
            needs.first().map(|need| (need.what, need.part())),
            Some(("processors", 0.5)),
            "1 of 4 cores, half free"
        );
    }

    #[test]
    fn sidecars_that_are_seldom_asked_cost_more() {
        let sidecar = Costs::load(None).unwrap().sidecar;
        let spread = |instances| Demand { instances, connections: 0.0, ..demand() };
        let [few, many] =
            [10.0, 1_000.0].map(|count| sidecar_cores(&sidecar, &spread(count)) - count * sidecar.base_cores);
        let more = 10_000.0 * (sidecar.request.us(10.0) - sidecar.request.us(1_000.0)) / 1e6;
        assert!((many - few - more).abs() < 1e-9 && more > 0.0, "{few} and {many}");
    }

    #[test]
    fn the_rest_of_a_fleet_carries_everything_when_a_region_is_lost() {
        assert_eq!([left(10, 5), left(11, 5), left(10, 1), left(1, 2)], [8, 8, 10, 1]);
        let demand = Demand { instances: 40_000.0, ..demand() };
        let one = fewest(&gateway(), &demand, &machine(), 1).unwrap();
        assert_eq!(one, 10, "registration connections: 4,096 each");
        assert_eq!(fewest(&gateway(), &demand, &machine(), 5), Some(13), "10 of 13 are left");
        let small = Machine { cores: 0.1, ..machine() };
        assert_eq!(fewest(&gateway(), &demand, &small, 1), None, "no number of such gateways suffices");
    }

    proptest! {
        #[test]
        fn one_gateway_fewer_would_not_do(
            instances in 1.0..1e6, sessions in 0.0..1e6, connections in 0.0..1e5, requests in 0.0..1e6, regions in 1u32..8,
        ) {
            let demand = Demand { instances, sessions, connections, requests, gib: 0.0 };
            let gateways = fewest(&gateway(), &demand, &machine(), regions).unwrap();
            let suffices = |gateways| {
                needs(&gateway(), &demand, &machine(), f64::from(left(gateways, regions))).iter().all(|need| need.part() <= 1.0)
            };
            prop_assert!(suffices(gateways));
            prop_assert!(gateways == 1 || !suffices(gateways - 1));
        }
    }
}
