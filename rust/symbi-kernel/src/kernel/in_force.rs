//! The policies that are in force: compiled, looked at, swapped.
//!
//! Not here: who may change them (`operators`), deciding by them (`monitor`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use symbi_policy::{CounterSpec, Diagnostic, Engine, Obligation, Schema, Source};

use super::{Kernel, KernelError};

/// Policy texts and the counters they read.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Cedar texts.
    pub sources: Vec<Source>,
    /// Counters.
    pub counters: Vec<CounterSpec>,
}

/// What is in force. The built-in operator set is the first layer of every engine.
pub(crate) struct ActivePolicies {
    pub(crate) engine: Engine,
    pub(crate) digest: String,
    /// Why the configured set is not in force. Then the engine holds the operator set alone: all else is refused.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// All counters that are declared: what is declared is counted, whoever reads it.
    pub(crate) declared: Vec<CounterSpec>,
    /// Rules have budgets of their own.
    pub(crate) has_budgets: bool,
}

impl ActivePolicies {
    fn new(engine: Engine, declared: &[CounterSpec], diagnostics: Vec<Diagnostic>) -> Self {
        let is_budget = |one: &Obligation| matches!(one, Obligation::Budget(_));
        let has_budgets = engine.rules().any(|rule| rule.obligations.iter().any(is_budget));
        Self {
            has_budgets,
            digest: engine.digest().to_owned(),
            engine,
            diagnostics,
            declared: declared.to_vec(),
        }
    }

    /// The counters that stand in the context of an action.
    pub(crate) fn counters(&self, action: &str) -> impl Iterator<Item = &CounterSpec> {
        self.declared.iter().filter(move |spec| spec.is_seen_by(action))
    }

    pub(crate) fn broken(&self) -> bool {
        !self.diagnostics.is_empty()
    }
}

/// Compiles policies as they were given, or says what is wrong with them.
pub(crate) fn compile_given(policies: &Policies) -> Result<ActivePolicies, Vec<Diagnostic>> {
    let engine = Engine::compile(Schema::Symbi, &policies.sources, &policies.counters)?;
    Ok(ActivePolicies::new(engine, &policies.counters, Vec::new()))
}

/// Compiles what is to be in force. A broken set compiles to one that refuses everything, and says why.
pub(super) fn compile(policies: Option<&Policies>) -> Result<ActivePolicies, KernelError> {
    let builtin = |diagnostics: Vec<Diagnostic>| KernelError::Builtin(symbi_policy::render(&diagnostics));
    let compiled =
        match policies {
            None => Ok(Engine::compile(Schema::Symbi, &symbi_policy::builtin::secure_default(), &[])
                .map_err(builtin)?),
            Some(given) => Engine::compile(Schema::Symbi, &given.sources, &given.counters),
        };
    let counters = policies.map_or(&[][..], |given| &given.counters);
    match compiled {
        Ok(engine) => Ok(ActivePolicies::new(engine, counters, Vec::new())),
        Err(diagnostics) => {
            let engine = Engine::compile(Schema::Symbi, &[], &[]).map_err(builtin)?;
            Ok(ActivePolicies::new(engine, &[], diagnostics))
        }
    }
}

impl Kernel {
    /// The digest of the policies in force.
    #[must_use]
    pub fn policy_digest(&self) -> String {
        self.policies().digest.clone()
    }

    /// How often a rule could not be evaluated since the opening: not applied if it permits, obeyed if it forbids.
    #[must_use]
    pub fn erring_rules(&self) -> u64 {
        self.erring_rules.load(Ordering::Relaxed)
    }

    pub(crate) fn note_erring_rules(&self, count: usize) {
        self.erring_rules.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Why the configured policies are not in force; empty where they are.
    #[must_use]
    pub fn policy_diagnostics(&self) -> Vec<Diagnostic> {
        self.policies().diagnostics.clone()
    }

    /// Puts compiled policies in force.
    pub(crate) fn activate(&self, active: ActivePolicies) {
        // What was counted stays: a counter that is declared again tomorrow goes on from there.
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
    }

    pub(crate) fn policies(&self) -> Arc<ActivePolicies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }
}
