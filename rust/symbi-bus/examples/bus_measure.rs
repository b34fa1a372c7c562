//! What the native path of a message costs: 256 bytes, one sender, one recipient.
//!
//! ```text
//! cargo run --release -p symbi-bus --example bus_measure                 # a table: medians of 15 runs
//! perf stat -e instructions target/release/examples/bus_measure batch 200000   # one path, for instruction counts
//! ```
//! Paths: `crypto` seal and open alone, `single` one signature each and strict checks one by one, `each` one signature each
//! on two threads and checks together, `batch` one signature for 256, `topic` one message for eight members, `round` a
//! request and its reply.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures, run by hand")]
#![expect(clippy::disallowed_methods, reason = "it reads the clock, and the system's randomness")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use symbi_bus::{Bus, BusOptions, ContentType, Outgoing, Publication, Received, Reply, Topic};
use symbi_crypto::{NonceCounter, Provider, SealingKey};
use symbi_types::{AgentId, LabelSet, MessageId, SystemEntropy};

const NOW: u64 = 1_800_000_000_000_000;
const PAYLOAD: [u8; 256] = [7; 256];
const RUNS: usize = 15;

struct Town {
    bus: Bus,
    agents: Vec<AgentId>,
    none: LabelSet,
    received: Received,
}

impl Town {
    fn new(provider: Provider, workers: usize) -> Self {
        let options = BusOptions {
            mailbox_depth_max: 16_384,
            mailbox_bytes_max: 64 << 20,
            workers,
            ..BusOptions::default()
        };
        let bus = Bus::new(options, Arc::new(SystemEntropy), provider);
        let agents: Vec<AgentId> = (0..9).map(|_| AgentId::random(&SystemEntropy)).collect();
        for agent in &agents {
            bus.register(*agent).unwrap();
        }
        Self { bus, agents, none: LabelSet::default(), received: Received::default() }
    }

    fn outgoing(&self, from: usize, to: usize) -> Outgoing<'_> {
        let [sender, recipient] = [from, to].map(|at| self.agents.get(at).copied().unwrap());
        Outgoing {
            sender,
            recipient,
            id: None,
            payload: &PAYLOAD,
            content_type: ContentType::Bytes,
            labels: &self.none,
            in_reply_to: None,
            expects_reply: false,
            lifetime_us: None,
        }
    }

    fn receive(&mut self, to: usize, count: usize) {
        let agent = self.agents.get(to).copied().unwrap();
        let mut received = std::mem::take(&mut self.received);
        self.bus.receive_into(agent, usize::MAX, NOW, &mut received).unwrap();
        assert_eq!((received.opened.len(), received.refused.len()), (count, 0));
        self.received = received;
    }

    /// Sends and receives `count` messages in portions; answers the time of sending and of receiving.
    fn portions(&mut self, path: &str, count: usize) -> (Duration, Duration) {
        let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
        let mut results = Vec::new();
        let mut left = count;
        while 0 < left {
            let portion = left.min(if path == "single" { 1 } else { 1_024 });
            let began = Instant::now();
            match path {
                "single" => {
                    self.bus.seal_and_deliver(&self.outgoing(0, 1), NOW).unwrap();
                }
                "each" => {
                    let list = vec![self.outgoing(0, 1); portion];
                    assert!(self.bus.send_each(&list, NOW).iter().all(Result::is_ok));
                }
                _ => {
                    let list = vec![self.outgoing(0, 1); portion];
                    self.bus.send_batch_into(&list, NOW, &mut results);
                    assert!(results.iter().all(Result::is_ok));
                }
            }
            let sent = Instant::now();
            self.receive(1, portion);
            sending += sent - began;
            receiving += sent.elapsed();
            left -= portion;
        }
        (sending, receiving)
    }

    fn rounds(&mut self, count: usize) -> Vec<Duration> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            let question = Outgoing { expects_reply: true, ..self.outgoing(0, 1) };
            let request: MessageId = self.bus.seal_and_deliver(&question, NOW).unwrap().id;
            let asker = question.sender;
            self.receive(1, 1);
            let answer = Outgoing { in_reply_to: Some(request), ..self.outgoing(1, 0) };
            self.bus.seal_and_deliver(&answer, NOW).unwrap();
            assert!(matches!(self.bus.take_reply(asker, request, NOW), Ok(Reply::Opened(_))));
            times.push(began.elapsed());
        }
        times.sort();
        times
    }

    fn topic(&mut self, count: usize) -> Duration {
        let topic: Topic = "clinic.alerts".parse().unwrap();
        let keys = self.bus.topic_keys(&topic);
        let members: Vec<AgentId> = self.agents.iter().skip(1).copied().collect();
        for member in &members {
            keys.join(*member);
        }
        let began = Instant::now();
        for _ in 0..count {
            let publication = Publication {
                sender: self.outgoing(0, 1).sender,
                topic: &topic,
                recipients: &members,
                id: None,
                payload: &PAYLOAD,
                content_type: ContentType::Bytes,
                labels: &self.none,
                lifetime_us: None,
            };
            self.bus.publish(&publication, NOW).unwrap();
            for member in 1..=members.len() {
                self.receive(member, 1);
            }
        }
        began.elapsed()
    }
}

fn crypto(provider: Provider, count: usize) -> Duration {
    let key = SealingKey::new(provider, [3; 32]);
    let header = [5u8; 164];
    let mut data = Vec::with_capacity(512);
    let began = Instant::now();
    for number in 1..=count as u64 {
        data.clear();
        data.extend_from_slice(&PAYLOAD);
        key.seal(NonceCounter::nonce(number), &header, &mut data).unwrap();
        key.open(NonceCounter::nonce(number), &header, &mut data).unwrap();
        assert_eq!(data.len(), PAYLOAD.len());
    }
    began.elapsed()
}

/// One thread sends what another receives: both halves at the same time.
fn pipeline(provider: Provider, path: &str, count: usize) -> Duration {
    let town = Town::new(provider, 1);
    let bus = &town.bus;
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = count;
            while 0 < left {
                let portion = left.min(256);
                let list = vec![town.outgoing(0, 1); portion];
                let sent =
                    if path == "each" { bus.send_each(&list, NOW) } else { bus.send_batch(&list, NOW) };
                left -= sent.iter().filter(|one| one.is_ok()).count();
            }
        });
        let (mut left, mut received) = (count, Received::default());
        while 0 < left {
            bus.receive_into(town.outgoing(0, 1).recipient, 1_024, NOW, &mut received).unwrap();
            left -= received.opened.len();
        }
    });
    began.elapsed()
}

fn median(mut run: impl FnMut() -> Duration, count: usize) -> f64 {
    let mut times: Vec<f64> = (0..RUNS).map(|_| run().as_secs_f64() / count as f64 * 1e6).collect();
    times.sort_by(f64::total_cmp);
    times.get(RUNS / 2).copied().unwrap_or_default()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [path, count] = arguments.as_slice() {
        let count: usize = count.parse().unwrap();
        match path.as_str() {
            "crypto" => drop(crypto(Provider::AwsLc, count)),
            "round" => drop(Town::new(Provider::AwsLc, 1).rounds(count)),
            "topic" => drop(Town::new(Provider::AwsLc, 1).topic(count)),
            path => drop(Town::new(Provider::AwsLc, 1).portions(path, count)),
        }
        return;
    }
    println!("{:>8} {:>9} {:>12} {:>12} {:>12}", "provider", "path", "send µs", "receive µs", "messages/s");
    for provider in [Provider::AwsLc, Provider::Ring] {
        let sealed = median(|| crypto(provider, 10_000), 10_000);
        println!("{provider:>8} {:>9} {sealed:>12.2} seal and open", "crypto");
        for (path, workers, count) in
            [("single", 1, 1_000), ("each", 1, 4_096), ("each", 2, 4_096), ("batch", 1, 16_384)]
        {
            let mut town = Town::new(provider, workers);
            town.portions(path, count);
            let send = median(|| town.portions(path, count).0, count);
            let receive = median(|| town.portions(path, count).1, count);
            let rate = 1e6 / (send + receive);
            println!(
                "{provider:>8} {:>9} {send:>12.2} {receive:>12.2} {rate:>12.0}",
                format!("{path}/{workers}")
            );
        }
        for (path, count) in [("each", 8_192), ("batch", 65_536)] {
            let rate = 1e6 / median(|| pipeline(provider, path, count), count);
            println!("{provider:>8} {path:>9} one thread sends, one receives {rate:>12.0} messages/s");
        }
        let mut town = Town::new(provider, 1);
        let each = median(|| town.topic(200), 200 * 8);
        println!("{provider:>8} {:>9} {each:>12.2} for each of eight members", "topic");
        let times = town.rounds(2_000);
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        println!("{provider:>8} {:>9} p50 {:?}, p99 {:?}", "round", at(50), at(99));
    }
}
