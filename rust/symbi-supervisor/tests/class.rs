//! The rule table, and what an agent may add to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use symbi_supervisor::{
    BACKOFF_MS_MAX, Class, Jitter, RETRIES_MAX, RULES, Supervision, SupervisionError, classify, leaves_doubt,
};

#[test]
fn sv1_the_table_is_sorted_and_names_each_code_once() {
    assert!(RULES.windows(2).all(|pair| pair[0].0 < pair[1].0), "a binary search finds every rule");
    for (code, class) in RULES {
        assert_eq!(classify(code), class, "{code}");
    }
    assert_eq!(classify("an exception of the agent's own"), Class::Other);
    assert_eq!(classify(""), Class::Other);
}

#[test]
fn sv22_an_answer_that_was_cut_off_leaves_doubt() {
    for code in ["timeout", "TimeoutError", "ReadTimeout", "ConnectionResetError", "MemoryError", "memory_mb"]
    {
        assert!(leaves_doubt(code), "{code}");
    }
    for code in ["ConnectionRefusedError", "ValueError", "tool", "denied", "MyError"] {
        assert!(!leaves_doubt(code), "{code}");
    }
}

#[test]
fn every_class_reads_back_from_its_name() {
    for class in Class::ALL {
        assert_eq!(class.as_str().parse(), Ok(class));
    }
}

#[test]
fn sv2_what_was_refused_stopped_or_is_unknown_cannot_be_asked_for() {
    for word in
        ["denied", "over_budget", "cancelled", "stopped", "unknown_effect", "internal", "EffectUnknownError"]
    {
        let asked = Supervision { retry_on: vec![word.to_owned()], ..Supervision::default() };
        assert_eq!(asked.check(), Err(SupervisionError::Final { word: word.to_owned() }));
        let class = word.parse().unwrap_or_else(|()| classify(word));
        assert!(class.is_final() && !asked.retries(class, word), "{word}");
    }
}

#[test]
fn an_agent_extends_the_rules_and_never_retry_is_stronger() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let plain = Supervision::default();
    assert!(plain.retries(Class::Transient, "TimeoutError") && plain.retries(Class::Other, "MyError"));
    assert!(!plain.retries(Class::Permanent, "ValueError") && !plain.retries(Class::Limit, "memory_mb"));
    let more = Supervision {
        retry_on: words(&["ValueError", "limit"]),
        never_retry: words(&["MyError", "memory_mb"]),
        ..plain
    };
    assert!(more.retries(Class::Permanent, "ValueError") && more.retries(Class::Limit, "timeout"));
    assert!(!more.retries(Class::Limit, "memory_mb") && !more.retries(Class::Other, "MyError"));
    assert!(!more.retries(Class::Permanent, "FileNotFoundError"));
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    let plain = Supervision::default();
    let text = |asked: Supervision| asked.check().unwrap_err().to_string();
    assert!(
        text(Supervision { retries: RETRIES_MAX + 1, ..plain.clone() }).contains("`retries` is 0 to 100")
    );
    assert!(text(Supervision { backoff_max_ms: 1, ..plain.clone() }).contains("`backoff_max_ms` is 200 to"));
    assert!(text(Supervision { window_ms: 0, ..plain.clone() }).contains("`window_ms` is 1 to"));
    assert!(text(Supervision { retry_on: vec![String::new()], ..plain }).contains("words of 1 to 64 bytes"));
}

proptest! {
    /// SV3, SV4: against the plain product, in numbers that do not overflow.
    #[test]
    fn sv3_sv4_a_delay_stays_between_nothing_and_the_doubled_bound(
        backoff_ms in 0..=BACKOFF_MS_MAX,
        more_ms in 0..=BACKOFF_MS_MAX,
        attempt in 1..=RETRIES_MAX,
        random in any::<u64>(),
    ) {
        let backoff_max_ms = (backoff_ms + more_ms).min(BACKOFF_MS_MAX);
        let asked = Supervision { backoff_ms, backoff_max_ms, ..Supervision::default() };
        prop_assert_eq!(asked.check(), Ok(()));
        let doubled = u128::from(backoff_ms) << attempt.min(60).saturating_sub(1);
        let bound = u64::try_from(doubled.min(u128::from(backoff_max_ms))).unwrap();
        let plain = Supervision { jitter: Jitter::None, ..asked.clone() };
        prop_assert_eq!(plain.delay_ms(attempt, random), bound);
        prop_assert!(asked.delay_ms(attempt, random) <= bound);
        prop_assert_eq!(asked.delay_ms(attempt, 0), 0);
        prop_assert_eq!(asked.delay_ms(attempt, u64::MAX), bound);
    }
}
