//! Who can be reached now: an immutable picture that every connection reads without a lock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postern_identity::{AppId, InstanceId};
use postern_pgwire::cancel::Slot;
use rpds::RedBlackTreeMapSync;

use crate::refusal::Refusal;
use crate::route::{Port, Route};

/// Whether the chain allows what an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was let in at this block.
    Admitted {
        /// The block's number.
        block: u64,
    },
    /// It is known, but not allowed.
    Refused,
}

/// One registered instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id, attested.
    pub id: InstanceId,
    /// Its app, attested.
    pub app: AppId,
    /// Its inner address.
    pub address: IpAddr,
    /// The port of its sidecar.
    pub sidecar_port: u16,
    /// Further ports it offers, each with whether a PROXY header goes in front.
    pub ports: BTreeMap<u16, bool>,
    /// The number that its cancel keys carry.
    pub slot: Slot,
    /// SHA-256 of the certificate that carried its evidence.
    pub fingerprint: [u8; 32],
    /// Until when its evidence holds, in seconds since 1970.
    pub evidence_until: u64,
    /// Whether it is admitted.
    pub standing: Standing,
    /// Whether its registration connection is open, which is the best sign of life there is.
    pub alive: bool,
}

/// An instance and the port of it at which a route ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Where to connect, inside the tunnel.
    pub address: SocketAddr,
    /// Whether a PROXY header goes in front.
    pub proxy_header: bool,
}

/// The instances that are registered, by id, by app and by cancel slot.
///
/// Cheap to clone, and to change while there are clones: they share what did not change since.
#[derive(Debug, Clone, Default)]
pub struct Table {
    generation: u64,
    instances: RedBlackTreeMapSync<InstanceId, Arc<Instance>>,
    apps: RedBlackTreeMapSync<AppId, RedBlackTreeMapSync<InstanceId, Arc<Instance>>>,
    slots: RedBlackTreeMapSync<Slot, Arc<Instance>>,
    admitted: usize,
}

impl Table {
    /// Puts an instance in the place of what was there under its id.
    pub fn put(&mut self, instance: Instance) {
        self.remove(&instance.id);
        let instance = Arc::new(instance);
        self.generation += 1;
        self.admitted += usize::from(instance.is_admitted());
        self.slots.insert_mut(instance.slot, Arc::clone(&instance));
        self.instances.insert_mut(instance.id, Arc::clone(&instance));
        match self.apps.get_mut(&instance.app) {
            Some(app) => app.insert_mut(instance.id, instance),
            None => {
                let app = RedBlackTreeMapSync::default().insert(instance.id, Arc::clone(&instance));
                self.apps.insert_mut(instance.app, app);
            }
        }
    }

    /// Takes an instance out.
    pub fn remove(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id).cloned() else { return };
        self.generation += 1;
        self.admitted -= usize::from(instance.is_admitted());
        self.instances.remove_mut(id);
        self.slots.remove_mut(&instance.slot);
        let Some(app) = self.apps.get_mut(&instance.app) else { return };
        app.remove_mut(id);
        if app.is_empty() {
            self.apps.remove_mut(&instance.app);
        }
    }

    /// A number that grows with every change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every instance, in the order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// The instance with an id.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(id)
    }

    /// How many instances there are: those that stand as admitted, and the others.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.admitted, self.instances.size() - self.admitted)
    }

    /// The instance whose cancel keys carry this slot.
    #[must_use]
    pub fn by_slot(&self, slot: Slot) -> Option<&Arc<Instance>> {
        self.slots.get(&slot)
    }

    /// The instances to which a connection may go: those alive or, when none is, the others.
    ///
    /// `admitted` is asked for each instance that stands as admitted, so that the caller can add what only it knows, such
    /// as the age of its view of the chain. Where all are closed, the reason is the one that gives most hope: a chain that
    /// cannot be judged now may still allow one of them.
    pub fn candidates(
        &self,
        route: &Route,
        admitted: impl Fn(&Instance) -> Result<(), Refusal>,
    ) -> Result<Vec<Candidate>, Refusal> {
        let (mut verdict, mut is_open) = (Refusal::NotAdmitted, false);
        let (mut alive, mut silent) = (Vec::new(), Vec::new());
        for instance in self.named(route).ok_or(Refusal::UnknownApp)? {
            match admitted_now(instance, &admitted) {
                Ok(()) => {
                    is_open = true;
                    let kind = if instance.alive { &mut alive } else { &mut silent };
                    kind.extend(candidate(instance, route.port));
                }
                Err(refusal) => verdict = more_hopeful(verdict, refusal),
            }
        }
        let candidates = if alive.is_empty() { silent } else { alive };
        if candidates.is_empty() {
            return Err(if is_open { Refusal::PortClosed } else { verdict });
        }
        Ok(candidates)
    }

    /// The instance that a route names or else those of the app that it names, whatever their standing; `None` where it names
    /// neither.
    pub fn named(&self, route: &Route) -> Option<impl Iterator<Item = &Arc<Instance>>> {
        let instance = route.target.instance().and_then(|id| self.instances.get(&id));
        let app = if instance.is_none() { Some(self.apps.get(&route.target.app())?) } else { None };
        Some(instance.into_iter().chain(app.into_iter().flat_map(|app| app.values())))
    }
}

impl Instance {
    /// Whether it stands as admitted.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        matches!(self.standing, Standing::Admitted { .. })
    }
}

fn admitted_now(instance: &Instance, admitted: &impl Fn(&Instance) -> Result<(), Refusal>) -> Result<(), Refusal> {
    match instance.standing {
        Standing::Admitted { .. } => admitted(instance),
        Standing::Refused => Err(Refusal::NotAdmitted),
    }
}

/// Of two reasons always the same one, in whatever order they come.
fn more_hopeful(one: Refusal, other: Refusal) -> Refusal {
    std::cmp::max_by_key(one, other, |refusal| {
        (matches!(refusal, Refusal::ChainUnknown | Refusal::ChainStale), *refusal)
    })
}

fn candidate(instance: &Arc<Instance>, port: Port) -> Option<Candidate> {
    let (port, proxy_header) = match port {
        Port::Sidecar => (instance.sidecar_port, true),
        Port::Number(port) if port == instance.sidecar_port => (port, true),
        Port::Number(port) => (port, *instance.ports.get(&port)?),
    };
    let address = SocketAddr::new(instance.address, port);
    Some(Candidate { instance: Arc::clone(instance), address, proxy_header })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::Target;

    fn instance(number: u8, app: u8) -> Instance {
        Instance {
            id: InstanceId([number; 20]),
            app: AppId([app; 20]),
            address: IpAddr::from([10, 0, 0, number]),
            sidecar_port: 5433,
            ports: BTreeMap::from([(8443, false), (9000, true)]),
            slot: Slot::new(number.into()).unwrap(),
            fingerprint: [number; 32],
            evidence_until: u64::MAX,
            standing: Standing::Admitted { block: 7 },
            alive: true,
        }
    }

    fn table(instances: impl IntoIterator<Item = Instance>) -> Table {
        let mut table = Table::default();
        instances.into_iter().for_each(|instance| table.put(instance));
        table
    }

    fn to_app(app: u8, port: Port) -> Route {
        Route { target: Target::App(AppId([app; 20])), port }
    }

    fn ids(candidates: &[Candidate]) -> Vec<u8> {
        candidates.iter().map(|candidate| candidate.instance.id.0[0]).collect()
    }

    fn yes(_: &Instance) -> Result<(), Refusal> {
        Ok(())
    }

    #[test]
    fn an_app_has_all_its_admitted_instances_and_nobody_elses() {
        let refused = Instance { standing: Standing::Refused, ..instance(3, 1) };
        let table = table([instance(1, 1), instance(2, 1), refused, instance(4, 2)]);
        assert_eq!(ids(&table.candidates(&to_app(1, Port::Sidecar), yes).unwrap()), [1, 2]);
        assert_eq!(ids(&table.candidates(&to_app(2, Port::Sidecar), yes).unwrap()), [4]);
    }

    #[test]
    fn unknown_and_not_admitted_are_told_apart() {
        let table = table([Instance { standing: Standing::Refused, ..instance(1, 1) }]);
        assert_eq!(table.candidates(&to_app(9, Port::Sidecar), yes), Err(Refusal::UnknownApp));
        assert_eq!(table.candidates(&to_app(1, Port::Sidecar), yes), Err(Refusal::NotAdmitted));
    }

    #[test]
    fn what_only_the_caller_knows_can_close_an_instance() {
        let table = table([instance(1, 1)]);
        let stale = |_: &Instance| Err(Refusal::ChainUnknown);
        assert_eq!(table.candidates(&to_app(1, Port::Sidecar), stale), Err(Refusal::ChainUnknown));
    }

    #[test]
    fn the_reason_of_several_closed_instances_does_not_depend_on_their_ids() {
        let refused = |number| Instance { standing: Standing::Refused, ..instance(number, 1) };
        let stale = |_: &Instance| Err(Refusal::ChainUnknown);
        for table in [[refused(1), instance(2, 1)], [instance(1, 1), refused(2)]].map(table) {
            assert_eq!(table.candidates(&to_app(1, Port::Sidecar), stale), Err(Refusal::ChainUnknown));
        }
        let differ = |closed: u8| {
            move |at: &Instance| Err(if at.id.0[0] == closed { Refusal::NotAdmitted } else { Refusal::ChainUnknown })
        };
        for closed in [1, 2] {
            let table = table([instance(1, 1), instance(2, 1)]);
            assert_eq!(table.candidates(&to_app(1, Port::Sidecar), differ(closed)), Err(Refusal::ChainUnknown));
        }
    }

    #[test]
    fn instances_that_show_no_life_are_the_last_resort() {
        let silent = Instance { alive: false, ..instance(1, 1) };
        let both = table([silent.clone(), instance(2, 1)]);
        assert_eq!(ids(&both.candidates(&to_app(1, Port::Sidecar), yes).unwrap()), [2]);
        let alone = table([silent]);
        assert_eq!(ids(&alone.candidates(&to_app(1, Port::Sidecar), yes).unwrap()), [1]);
    }

    #[test]
    fn only_the_sidecars_port_and_offered_ports_are_open() {
        let table = table([instance(1, 1)]);
        let to = |port| {
            table.candidates(&to_app(1, port), yes).map(|found| (found[0].address.port(), found[0].proxy_header))
        };
        assert_eq!(to(Port::Sidecar), Ok((5433, true)));
        assert_eq!(to(Port::Number(5433)), Ok((5433, true)));
        assert_eq!(to(Port::Number(8443)), Ok((8443, false)));
        assert_eq!(to(Port::Number(9000)), Ok((9000, true)));
        assert_eq!(to(Port::Number(22)), Err(Refusal::PortClosed));
    }

    #[test]
    fn an_id_names_an_instance_first_and_else_an_app() {
        let table = table([instance(1, 1), instance(2, 1), instance(5, 6)]);
        let either = |id: u8| Route { target: Target::Either([id; 20]), port: Port::Number(5433) };
        assert_eq!(ids(&table.candidates(&either(1), yes).unwrap()), [1]);
        assert_eq!(ids(&table.candidates(&either(6), yes).unwrap()), [5]);
        assert_eq!(table.candidates(&either(7), yes), Err(Refusal::UnknownApp));
    }

    #[test]
    fn a_slot_leads_to_its_instance() {
        let table = table([instance(1, 1), instance(2, 1)]);
        assert_eq!(table.by_slot(Slot::new(2).unwrap()).unwrap().id, InstanceId([2; 20]));
        assert_eq!(table.by_slot(Slot::new(3).unwrap()), None);
        assert_eq!((table.generation(), table.instances().count()), (2, 2));
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut later = table([instance(1, 1), instance(2, 1)]);
        let before = later.clone();
        later.put(Instance { standing: Standing::Refused, ..instance(1, 1) });
        later.remove(&InstanceId([2; 20]));
        assert_eq!((before.counts(), later.counts()), ((2, 0), (0, 1)));
        assert_eq!(ids(&before.candidates(&to_app(1, Port::Sidecar), yes).unwrap()), [1, 2]);
        assert_eq!(later.candidates(&to_app(1, Port::Sidecar), yes), Err(Refusal::NotAdmitted));
        assert!(later.generation() > before.generation());
    }

    proptest! {
        #[test]
        fn whatever_is_put_and_removed_all_three_views_agree(
            changes in proptest::collection::vec((1..5_u8, 1..3_u8, 0..3_u8), 0..40),
        ) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (number, app, change) in changes {
                let standing = if change == 0 { Standing::Refused } else { Standing::Admitted { block: 7 } };
                let instance = Instance { standing, ..instance(number, app) };
                if change == 2 {
                    table.remove(&instance.id);
                    model.remove(&instance.id);
                } else {
                    table.put(instance.clone());
                    model.insert(instance.id, instance);
                }
            }
            let admitted = model.values().filter(|instance| instance.is_admitted()).count();
            prop_assert_eq!(table.counts(), (admitted, model.len() - admitted));
            prop_assert!(table.instances().map(AsRef::as_ref).eq(model.values()));
            prop_assert!(model.values().all(|at| table.by_slot(at.slot).map(AsRef::as_ref) == Some(at)));
            prop_assert_eq!(table.slots.size(), model.len());
            for app in 1..3 {
                let of_app: Vec<_> = model.values().filter(|at| at.app.0[0] == app && at.is_admitted()).map(|at| at.id.0[0]).collect();
                let found = table.candidates(&to_app(app, Port::Sidecar), yes).map(|found| ids(&found)).unwrap_or_default();
                prop_assert_eq!(found, of_app);
            }
        }
    }
}
