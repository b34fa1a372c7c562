//! What an agent may use at most, and what a node has.
//!
//! Invariants
//! - R1 processor shares are whole thousandths of a core: sums are exact, and no float reaches the log.
//! - R2 subtraction never wraps: returning more than was taken is an error, not a large number.

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` must be {accepted}, and is {given}")]
pub struct LimitError {
    /// The limit's name, with its unit.
    pub name: &'static str,
    /// The accepted range.
    pub accepted: &'static str,
    /// What was given.
    pub given: String,
}

/// The limits of one agent (spec R2). `None` means: not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceLimits {
    /// Memory, in MiB.
    pub memory_mb: Option<u64>,
    /// Processor share, in thousandths of a core (R1).
    pub cpu_millicores: Option<u64>,
    /// Disk bandwidth, read and write each, in MiB/s.
    pub disk_io_mbps: Option<u64>,
    /// Network bandwidth, in MiB/s.
    pub network_io_mbps: Option<u64>,
    /// Network connections at once.
    pub connections: Option<u64>,
    /// Wall-clock time of one task, in milliseconds.
    pub execution_timeout_ms: Option<u64>,
}

impl ResourceLimits {
    /// Refuses what no machine could apply.
    ///
    /// # Errors
    /// [`LimitError`] names the limit and the accepted range.
    pub fn check(&self) -> Result<(), LimitError> {
        let range = |name, accepted, value: Option<u64>, low, high| match value {
            Some(value) if value < low || high < value => {
                Err(LimitError { name, accepted, given: value.to_string() })
            }
            _ => Ok(()),
        };
        range("memory_mb", "16 to 1048576", self.memory_mb, 16, 1 << 20)?;
        range("cpu_cores", "0.01 to 1024", self.cpu_millicores, 10, 1_024_000)?;
        range("disk_io_mbps", "1 to 1048576", self.disk_io_mbps, 1, 1 << 20)?;
        range("network_io_mbps", "0 to 1048576", self.network_io_mbps, 0, 1 << 20)?;
        range("connections", "0 to 65536", self.connections, 0, 1 << 16)?;
        let day_ms = 86_400_000;
        range("execution_timeout_ms", "1 to 86400000", self.execution_timeout_ms, 1, day_ms)
    }
}

/// An amount of each resource: what a task asks for, or what a node has free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceVector {
    /// Memory, in MiB.
    pub memory_mb: u64,
    /// Processor share, in thousandths of a core (R1).
    pub cpu_millicores: u64,
    /// Disk bandwidth, in MiB/s.
    pub disk_io_mbps: u64,
    /// Network bandwidth, in MiB/s.
    pub network_io_mbps: u64,
    /// Accelerator slots.
    pub accelerators: u64,
    /// Sandboxes at once; 0 for what runs in the host's process.
    pub sandboxes: u64,
}

impl ResourceVector {
    /// How many resources there are.
    pub const DIMENSIONS: usize = 6;

    /// The amounts in the order of the fields.
    #[must_use]
    #[inline]
    pub const fn to_array(self) -> [u64; Self::DIMENSIONS] {
        let Self { memory_mb, cpu_millicores, disk_io_mbps, network_io_mbps, accelerators, sandboxes } = self;
        [memory_mb, cpu_millicores, disk_io_mbps, network_io_mbps, accelerators, sandboxes]
    }

    /// The vector of these amounts, in the order of the fields.
    #[must_use]
    #[inline]
    pub const fn from_array(amounts: [u64; Self::DIMENSIONS]) -> Self {
        let [memory_mb, cpu_millicores, disk_io_mbps, network_io_mbps, accelerators, sandboxes] = amounts;
        Self { memory_mb, cpu_millicores, disk_io_mbps, network_io_mbps, accelerators, sandboxes }
    }

    /// Whether every part of `other` fits into this.
    #[must_use]
    #[inline]
    pub fn fits(&self, other: &Self) -> bool {
        self.to_array().iter().zip(other.to_array()).all(|(have, need)| need <= *have)
    }

    /// The smaller of each part.
    #[must_use]
    #[inline]
    pub fn minimum(&self, other: &Self) -> Self {
        self.join(other, u64::min)
    }

    /// The larger of each part.
    #[must_use]
    #[inline]
    pub fn maximum(&self, other: &Self) -> Self {
        self.join(other, u64::max)
    }

    /// The sum, or `None` past the range.
    #[must_use]
    #[inline]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        self.each(other, u64::checked_add)
    }

    /// The difference, or `None` where a part would be negative (R2).
    #[must_use]
    #[inline]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        self.each(other, u64::checked_sub)
    }

    #[inline]
    fn join(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut amounts = self.to_array();
        for (amount, other) in amounts.iter_mut().zip(other.to_array()) {
            *amount = join(*amount, other);
        }
        Self::from_array(amounts)
    }

    #[inline]
    fn each(&self, other: &Self, join: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        let mut amounts = self.to_array();
        for (amount, other) in amounts.iter_mut().zip(other.to_array()) {
            *amount = join(*amount, other)?;
        }
        Some(Self::from_array(amounts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_a_thousand_shares_of_a_thousandth_are_a_core_to_the_last_digit() {
        let share = ResourceVector { cpu_millicores: 1, ..Default::default() };
        let sum = (0..1_000).try_fold(ResourceVector::default(), |sum, _| sum.checked_add(&share));
        assert_eq!(sum.unwrap().cpu_millicores, 1_000);
    }

    #[test]
    fn r2_a_difference_below_zero_is_none() {
        let one = ResourceVector { memory_mb: 1, ..Default::default() };
        assert_eq!(ResourceVector::default().checked_sub(&one), None);
    }

    #[test]
    fn an_impossible_limit_names_itself_and_its_range() {
        let limits = ResourceLimits { memory_mb: Some(1), ..Default::default() };
        assert_eq!(limits.check().unwrap_err().to_string(), "`memory_mb` must be 16 to 1048576, and is 1");
    }
}
