//! What a signature costs alone, and among 8, 16 and 64: `cargo run --profile ci -p symbi-crypto --example signing`.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "an example that measures")]

use std::time::Instant;

use symbi_crypto::{Provider, SigningKey};

const ROUNDS: u32 = 300;

fn main() {
    let key = SigningKey::from_seed(Provider::AwsLc, &[7; 32]);
    let messages: Vec<[u8; 53]> = (0..64).map(|at| [at; 53]).collect();
    let mut signatures = Vec::new();
    for count in [1, 2, 3, 8, 16, 64] {
        let some = messages.get(..count).unwrap_or_default();
        key.sign_many(some, &mut signatures);
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            key.sign_many(some, &mut signatures);
        }
        let each = begin.elapsed() / ROUNDS / u32::try_from(count).unwrap_or(1);
        println!("{count:3} together: {:5.2} us each", each.as_secs_f64() * 1e6);
    }
}
