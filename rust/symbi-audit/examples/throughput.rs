//! How fast the log is on this machine: `cargo run --release -p symbi-audit --example throughput [DIRECTORY]`.
//!
//! Prints durable signed records per second for several group sizes, one record at a time with its latency, and
//! verification. The public figures are `symbi bench audit`; this is the same without Python.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for developers: a fault ends it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use symbi_audit::{Event, Log, LogOptions, Owner, VerifyOptions, verify};
use symbi_crypto::{Provider, Signed, SigningKey, verify_many};
use symbi_types::{AgentId, Clock as _, SystemClock, SystemEntropy};

const WAIT: Duration = Duration::from_secs(60);

fn seconds(work: impl FnOnce()) -> f64 {
    let start = SystemClock.now().mono_ns;
    work();
    (SystemClock.now().mono_ns - start) as f64 / 1e9
}

/// What the cryptography allows on one core: the bound of everything below.
fn cryptography_alone(provider: Provider) {
    let key = SigningKey::from_seed(provider, &[1; 32]);
    let public = key.public();
    let messages: Vec<[u8; 53]> = (0..8_192u32).map(|at| std::array::from_fn(|_| at as u8)).collect();
    let mut signatures = Vec::new();
    let spent = seconds(|| signatures = messages.iter().map(|message| key.sign(message)).collect());
    println!("{provider} sign alone: {:.2} us", spent * 1e6 / messages.len() as f64);
    let signed: Vec<_> = messages
        .iter()
        .zip(&signatures)
        .map(|(message, signature)| Signed { key: &public, message, signature })
        .collect();
    let spent = seconds(|| verify_many(&signed).unwrap());
    println!("verify in groups alone: {:.2} us", spent * 1e6 / messages.len() as f64);
}

/// What one caller waits for while another hands in groups of 100 as fast as they are taken: microseconds, and how many
/// records had to be on disk before its own, which no other program on the machine changes.
fn beside_a_load(log: &Log, event: &Event<'_>) -> String {
    let stop = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        scope.spawn(|| {
            let events = vec![*event; 100];
            while !stop.load(Ordering::Relaxed) {
                log.append_many(&events).unwrap();
            }
        });
        let one = |_| {
            let (start, durable) = (SystemClock.now().mono_ns, log.durable());
            let seq = log.append(event).unwrap().seq;
            log.wait_durable(seq, WAIT).unwrap();
            ((SystemClock.now().mono_ns - start) / 1_000, seq.saturating_sub(durable))
        };
        let waits: Vec<(u64, u64)> = (0..500).map(one).collect();
        stop.store(true, Ordering::Relaxed);
        waits
    });
    let (mut us, mut before): (Vec<u64>, Vec<u64>) = waits.into_iter().unzip();
    us.sort_unstable();
    before.sort_unstable();
    format!("p50 {} us, p99 {} us, behind {} and {} records", us[250], us[495], before[250], before[495])
}

fn main() {
    let directory =
        std::env::args().nth(1).map_or_else(|| PathBuf::from("target/throughput-trail"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&directory);
    let agent = AgentId::random(&SystemEntropy);
    let details =
        r#"{"tool":"files.read","arguments_digest":"5f1d7c0c5e2b","duration_us":412,"bytes":18230}"#;
    let event =
        Event { agent_id: Some(agent), decision: Some("allow"), ..Event::new("tool.called", details) };
    for provider in [Provider::AwsLc, Provider::Ring] {
        cryptography_alone(provider);
        for signers in [1, 2, 3] {
            let mut options = LogOptions::new(SigningKey::from_seed(provider, &[1; 32]), Owner::Application);
            options.signers = signers;
            let place = directory.join(format!("{provider}-{signers}"));
            let (log, _) = Log::open(&place, &options).unwrap();
            for group in [1, 100, 1_000] {
                let rounds = 100_000 / group;
                let events = vec![event; group];
                let spent = seconds(|| {
                    let last = (0..rounds).map(|_| log.append_many(&events).unwrap().end - 1).last().unwrap();
                    log.wait_durable(last, WAIT).unwrap();
                });
                let rate = (rounds * group) as f64 / spent;
                println!("{provider} signers {signers} groups of {group:5} pipelined: {rate:9.0} records/s");
            }
            let events = vec![event; 1_000];
            let spent = seconds(|| {
                for _ in 0..100 {
                    let range = log.append_many(&events).unwrap();
                    log.wait_durable(range.end - 1, WAIT).unwrap();
                }
            });
            println!(
                "{provider} signers {signers} groups of  1000 each awaited: {:9.0} records/s",
                100_000.0 / spent
            );
            let mut latencies: Vec<u64> = (0..2_000)
                .map(|_| {
                    let start = SystemClock.now().mono_ns;
                    let seq = log.append(&event).unwrap().seq;
                    log.wait_durable(seq, WAIT).unwrap();
                    (SystemClock.now().mono_ns - start) / 1_000
                })
                .collect();
            latencies.sort_unstable();
            println!(
                "{provider} signers {signers} one at a time: p50 {} us, p99 {} us",
                latencies[1_000], latencies[1_980]
            );
            println!("{provider} signers {signers} one beside a load: {}", beside_a_load(&log, &event));
            log.close().unwrap();
            let mut records = 0;
            let spent = seconds(|| records = verify(&place, &VerifyOptions::default()).unwrap().records);
            println!("{provider} verify: {:9.0} records/s", records as f64 / spent);
            let spent = seconds(|| drop(Log::open(&place, &options).unwrap()));
            println!("{provider} open with {records} records: {spent:.2} s");
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
}
