//! Tenants: on whose account runs are, by name here and by number in the scheduler.
//!
//! Invariants
//! - K71 a name has one number as long as the runtime is open; `default` has 0.

use std::collections::HashMap;

use symbi_scheduler::{OptionsError, Scheduler, Share, TenantId};

use crate::agents::AgentError;

/// The tenant of who names none.
pub const TENANT_DEFAULT: &str = "default";
/// Longest name of a tenant, in characters.
const NAME_CHARS_MAX: usize = 64;
/// Tenants of one opening: a name that was used is kept, so that they are not a way to grow without bound.
const TENANTS_MAX: usize = 10_000;

/// All that were named.
pub(crate) struct Tenants {
    numbers: HashMap<String, TenantId>,
}

impl Tenants {
    /// Those of the options, with their shares.
    pub(crate) fn new(scheduler: &mut Scheduler, shares: &[(String, Share)]) -> Result<Self, OptionsError> {
        let mut tenants = Self { numbers: HashMap::from([(TENANT_DEFAULT.to_owned(), TenantId::DEFAULT)]) };
        for (name, share) in shares {
            let number = tenants.number(name).unwrap_or(TenantId::DEFAULT);
            scheduler.set_tenant(number, *share)?;
        }
        Ok(tenants)
    }

    /// K71.
    pub(crate) fn number(&mut self, name: &str) -> Result<TenantId, AgentError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if TENANTS_MAX <= self.numbers.len() {
            return Err(AgentError::Invalid(format!(
                "there are {TENANTS_MAX} tenants, the most there may be"
            )));
        }
        let number = TenantId(u32::try_from(self.numbers.len()).unwrap_or(u32::MAX));
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }
}

/// Whether a tenant may be called so.
pub(crate) fn check_tenant(name: &str) -> Result<(), AgentError> {
    let plain = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
    if name.is_empty() || NAME_CHARS_MAX < name.len() || !name.chars().all(plain) {
        let text = format!("a tenant's name is 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, `.`, `_`, `-`");
        return Err(AgentError::Invalid(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_scheduler::Options;

    #[test]
    fn k71_a_name_keeps_its_number_and_default_is_zero() {
        let mut scheduler = Scheduler::new(&[], Options::default()).unwrap();
        let mut tenants = Tenants::new(&mut scheduler, &[("a".to_owned(), Share::default())]).unwrap();
        let (first, second) = (tenants.number("a").unwrap(), tenants.number("b").unwrap());
        assert_ne!(first, second);
        assert_eq!(
            (tenants.number("a").unwrap(), tenants.number("default").unwrap()),
            (first, TenantId(0)),
            "K71"
        );
        assert!(check_tenant("team-1").is_ok() && check_tenant("").is_err() && check_tenant("a b").is_err());
    }
}
