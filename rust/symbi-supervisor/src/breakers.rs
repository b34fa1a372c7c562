//! Circuit breakers of everything that is depended on: tools, and the tiers of sandboxes.
//!
//! Why: a thing that fails is left alone, but no caller may shut a door for others by failing on purpose. So each caller
//! has a circuit of its own towards each dependency. What they share is suspicion: while a thing is shut for most of
//! those it failed for lately, one failure is enough to shut it for the next.
//! Not here: refusing (the kernel does, before anything is reserved).
//!
//! Invariants
//! - SV13 a caller whose calls succeed is let through, whatever happens to others.
//! - SV14 only a caller that failed has a circuit; one that has recovered has none. Their number is bounded.

use std::collections::HashMap;

use crate::circuit::{Circuit, CircuitOptions, CircuitState, Ticket};

/// Most dependencies with a circuit. Further ones are let through.
pub const DEPENDENCIES_MAX: usize = 4_096;
/// Most callers with a circuit towards one dependency. Further ones are let through.
pub const CALLERS_MAX: usize = 1_024;
/// Callers for whom it must be shut before it is suspected for all.
const SUSPECT_MIN: usize = 3;

/// Who depends on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// A tool's name, or `sandbox:<tier>`.
    pub dependency: &'a str,
    /// The agent's name, or `host`.
    pub caller: &'a str,
}

/// A dependency that has failed lately, as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyView {
    /// Its name.
    pub dependency: String,
    /// The worst of its circuits.
    pub state: CircuitState,
    /// Callers with a circuit that is not closed.
    pub callers: usize,
    /// Calls refused since it first failed.
    pub refused: u64,
    /// Nanoseconds until the first of them may try again.
    pub wait_ns: u64,
}

#[derive(Debug, Default)]
struct Dependency {
    callers: HashMap<Box<str>, Circuit>,
    refused: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Breakers {
    options: CircuitOptions,
    dependencies: HashMap<Box<str>, Dependency>,
    /// Above every ticket of a circuit that is gone.
    generation: u64,
}

impl Breakers {
    /// None has failed.
    #[must_use]
    pub fn new(options: CircuitOptions) -> Self {
        Self { options, dependencies: HashMap::new(), generation: 0 }
    }

    fn circuit(&mut self, place: Place<'_>) -> Option<&mut Circuit> {
        self.dependencies.get_mut(place.dependency)?.callers.get_mut(place.caller)
    }

    /// Nanoseconds that this caller should wait; none: it may call now. Takes no probe.
    #[must_use]
    pub fn wait_ns(&self, place: Place<'_>, now_ns: u64) -> Option<u64> {
        self.dependencies.get(place.dependency)?.callers.get(place.caller)?.wait_ns(now_ns)
    }

    /// A call was refused: counted where it is shown.
    pub fn refused(&mut self, place: Place<'_>) {
        if let Some(dependency) = self.dependencies.get_mut(place.dependency) {
            dependency.refused += 1;
        }
    }

    /// Lets a call through. No ticket: nothing has failed here, and there is nothing to bring back but a failure.
    ///
    /// # Errors
    /// Nanoseconds that it should wait.
    pub fn enter(&mut self, place: Place<'_>, now_ns: u64) -> Result<Option<Ticket>, u64> {
        let options = self.options;
        match self.circuit(place) {
            Some(circuit) => circuit.enter(&options, now_ns).map(Some),
            None => Ok(None),
        }
    }

    /// The call did not happen after all.
    pub fn withdraw(&mut self, place: Place<'_>, ticket: Option<Ticket>) {
        if let (Some(circuit), Some(ticket)) = (self.circuit(place), ticket) {
            circuit.withdraw(ticket);
        }
    }

    /// The call's outcome.
    pub fn leave(&mut self, place: Place<'_>, ticket: Option<Ticket>, failed: bool, now_ns: u64) {
        if failed && self.circuit(place).is_none() {
            self.begin(place, now_ns);
        }
        let options = self.options;
        let failures = if failed && self.suspects(place, now_ns) { 1 } else { options.failures };
        let Some(circuit) = self.circuit(place) else { return };
        circuit.leave(&options, ticket, failed, failures, now_ns);
        if circuit.is_blank(&options, now_ns) {
            let gone = circuit.next_generation();
            self.generation = self.generation.max(gone);
            self.forget(place); // SV14
        }
    }

    fn begin(&mut self, place: Place<'_>, now_ns: u64) {
        if self.dependencies.len() >= DEPENDENCIES_MAX && !self.dependencies.contains_key(place.dependency) {
            self.sweep(now_ns);
            if self.dependencies.len() >= DEPENDENCIES_MAX {
                return;
            }
        }
        let (generation, options) = (self.generation, self.options);
        let dependency = self.dependencies.entry(place.dependency.into()).or_default();
        if dependency.callers.len() >= CALLERS_MAX {
            dependency.callers.retain(|_, circuit| !circuit.is_blank(&options, now_ns));
        }
        if dependency.callers.len() < CALLERS_MAX {
            dependency.callers.insert(place.caller.into(), Circuit::born(generation));
        }
    }

    /// Whether it is shut for most others that it failed for, and for enough of them.
    fn suspects(&self, place: Place<'_>, now_ns: u64) -> bool {
        let Some(dependency) = self.dependencies.get(place.dependency) else { return false };
        let others = || dependency.callers.iter().filter(|(caller, _)| ***caller != *place.caller);
        let shut = others().filter(|(_, circuit)| circuit.state(now_ns) == CircuitState::Open).count();
        shut >= SUSPECT_MIN && shut * 2 > others().count()
    }

    fn forget(&mut self, place: Place<'_>) {
        let Some(dependency) = self.dependencies.get_mut(place.dependency) else { return };
        dependency.callers.remove(place.caller);
        if dependency.callers.is_empty() {
            self.dependencies.remove(place.dependency);
        }
    }

    /// Forgets what has recovered by time alone.
    pub fn sweep(&mut self, now_ns: u64) {
        let options = self.options;
        let mut generation = self.generation;
        for dependency in self.dependencies.values_mut() {
            dependency.callers.retain(|_, circuit| {
                let blank = circuit.is_blank(&options, now_ns);
                if blank {
                    generation = generation.max(circuit.next_generation());
                }
                !blank
            });
        }
        self.generation = generation;
        self.dependencies.retain(|_, dependency| !dependency.callers.is_empty());
    }

    /// What has failed lately, by name.
    #[must_use]
    pub fn view(&self, now_ns: u64) -> Vec<DependencyView> {
        let mut views: Vec<DependencyView> = self
            .dependencies
            .iter()
            .map(|(name, dependency)| {
                let states = || dependency.callers.values().map(|circuit| circuit.state(now_ns));
                let waits = dependency.callers.values().filter_map(|circuit| circuit.wait_ns(now_ns));
                DependencyView {
                    dependency: name.to_string(),
                    state: states().max().unwrap_or(CircuitState::Closed),
                    callers: states().filter(|state| *state != CircuitState::Closed).count(),
                    refused: dependency.refused,
                    wait_ns: waits.min().unwrap_or(0),
                }
            })
            .collect();
        views.sort_by(|one, other| one.dependency.cmp(&other.dependency));
        views
    }
}
