//! Seals and signatures that other people's cryptography checks: `tests/data/seals-v1.txt`, opened with PyNaCl and
//! `cryptography` by tests/security/test_trail_independent.py. `SYMBI_WRITE_VECTORS=1` writes them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a fault is a failure")]

use symbi_crypto::{NonceCounter, Provider, SealingKey, SigningKey};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn seals_and_signatures_for_others_to_check() {
    let mut lines = Vec::new();
    for provider in [Provider::AwsLc, Provider::Ring] {
        for size in [0usize, 1, 16, 300] {
            let plain: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut sealed = plain.clone();
            let nonce = NonceCounter::nonce(size as u64 + 1);
            SealingKey::new(provider, [9; 32]).seal(nonce, b"header", &mut sealed).unwrap();
            let key = SigningKey::from_seed(provider, &[4; 32]);
            let signature = key.sign(&sealed);
            let parts = [&nonce[..], &plain, &sealed, &key.public().0, &signature];
            lines.push(parts.map(hex).join(" "));
        }
    }
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[..4], lines[4..], "the providers' outputs are the same");
    let kept = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/seals-v1.txt");
    let made = lines[..4].join("\n") + "\n";
    if std::env::var_os("SYMBI_WRITE_VECTORS").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), made);
}
