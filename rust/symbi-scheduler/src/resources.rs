//! What a task keeps while it stands still, and sums that must not go wrong.
//!
//! Invariants
//! - V1 what a task keeps and what it gives back are what it needs, and no resource is in both.

use symbi_types::ResourceVector;

/// What a frozen task still occupies: its memory, its accelerators, its sandbox slot.
pub(crate) const fn kept(need: &ResourceVector) -> ResourceVector {
    ResourceVector { cpu_millicores: 0, disk_io_mbps: 0, network_io_mbps: 0, ..*need }
}

/// What a frozen task does not use: processor, disk and network (V1).
pub(crate) const fn given_back(need: &ResourceVector) -> ResourceVector {
    ResourceVector { memory_mb: 0, accelerators: 0, sandboxes: 0, ..*need }
}

/// The sum; past the range is our own fault: nodes are refused that could lead there.
pub(crate) fn add(to: &mut ResourceVector, amount: &ResourceVector) {
    let sum = to.checked_add(amount);
    assert!(sum.is_some(), "N1: sums stay within the range");
    *to = sum.unwrap_or(*to);
}

/// The difference; below zero is our own fault.
pub(crate) fn sub(from: &mut ResourceVector, amount: &ResourceVector) {
    let difference = from.checked_sub(amount);
    assert!(difference.is_some(), "N1: no more is given than is there");
    *from = difference.unwrap_or(*from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_what_is_kept_and_what_is_given_back_are_the_whole() {
        let need = ResourceVector::from_array([1, 2, 3, 4, 5, 6]);
        assert_eq!(kept(&need).checked_add(&given_back(&need)), Some(need));
        assert_eq!(kept(&need).minimum(&given_back(&need)), ResourceVector::default());
    }
}
