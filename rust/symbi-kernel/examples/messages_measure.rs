//! What messages cost between the binding and the log: 256 bytes of text, one sender, one recipient, one policy that
//! allows everything; a real log in a directory that is thrown away.
//!
//! ```text
//! cargo run --release -p symbi-kernel --example messages_measure           # a table: the least of 15 runs
//! valgrind --tool=callgrind target/release/examples/messages_measure batch 200   # one path, so many rounds of 512
//! ```
//! Paths: `batch` one signature for 256, `each` one signature each, together, `single` one call each, `trip` a request and
//! its reply.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program that measures, run by hand"
)]
#![expect(clippy::disallowed_methods, reason = "it reads the clock, and the system's randomness")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use symbi_crypto::Provider;
use symbi_kernel::{
    AdmissionLimits, AgentSpec, Kernel, KernelOptions, MessagingOptions, Parcel, Payload, Policies,
    Principal, Recipient, SchedulingOptions, SendOptions, Signing, SupervisorOptions,
};
use symbi_policy::Source;
use symbi_testkit::FakeClock;
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, SecurityTier, SystemEntropy};

const RUNS: usize = 15;
const BATCH: usize = 512;
const ROUNDS: usize = 20;

struct Town {
    kernel: Arc<Kernel>,
    agents: [AgentId; 2],
    says: Vec<Vec<u8>>,
    _directory: tempfile::TempDir,
}

impl Town {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = "permit(principal, action, resource);".to_owned();
        let policies =
            Policies { sources: vec![Source { name: "all.cedar".to_owned(), text }], counters: Vec::new() };
        let kernel = Kernel::open(KernelOptions {
            data: directory.path().join("data"),
            trail: None,
            policies: Some(policies),
            enforce: true,
            passphrase: None,
            provider: Provider::default(),
            signers: 2,
            capacity: ResourceVector::from_array([4_096, 8_000, 1_000, 1_000, 0, 2]),
            scheduling: SchedulingOptions::default(),
            supervision: SupervisorOptions::default(),
            tenants: Vec::new(),
            agents_max: 10,
            mailbox_depth_max: 16_384,
            mailbox_bytes_max: 64 << 20,
            admission: AdmissionLimits::default(),
            messaging: MessagingOptions::default(),
            clock: Arc::new(FakeClock::new()),
            entropy: Arc::new(SystemEntropy),
            storage: None,
            snapshot_records: symbi_kernel::SNAPSHOT_RECORDS,
            subject_key_backups: Vec::new(),
            keeping: symbi_kernel::KeepingOptions::default(),
        })
        .unwrap();
        let agents = ["one", "other"].map(|name| {
            let spec = AgentSpec {
                name: name.to_owned(),
                kind: "program".to_owned(),
                in_process: false,
                tier: SecurityTier::Docker,
                assessed: None,
                capabilities: Vec::new(),
                labels: LabelSet::default(),
                tenant: "default".to_owned(),
                limits: ResourceLimits::default(),
                supervision: None,
            };
            kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
        });
        let text = "The delivery of the second pallet is moved to the afternoon; please tell the driver. ";
        let says = (0..BATCH)
            .map(|at| {
                let letter = |shift: usize| b'a' + u8::try_from(at >> shift & 15).unwrap();
                let mut says = text.repeat(4).into_bytes();
                says.truncate(256);
                [12, 8, 4, 0].iter().zip(&mut says).for_each(|(shift, to)| *to = letter(*shift));
                says
            })
            .collect();
        Self { kernel, agents, says, _directory: directory }
    }

    fn many(&self, signing: Signing) {
        let [from, to] = self.agents;
        let mut parcel = Parcel::with_capacity(BATCH);
        for one in &self.says {
            let place = parcel.recipient(Recipient::Agent(to));
            parcel.add_bytes(place, one);
        }
        let sent = self.kernel.here(|| self.kernel.send_parcel(from, parcel, signing)).unwrap().0;
        assert!(sent.iter().all(Result::is_ok));
        assert_eq!(self.kernel.receive_mail(to, to, BATCH).unwrap().len(), BATCH);
    }

    fn single(&self) {
        let [from, to] = self.agents;
        for one in self.says.iter().take(64) {
            let options = SendOptions::default();
            let send =
                || self.kernel.send_with(from, &Recipient::Agent(to), Payload::Bytes(one.clone()), &options);
            self.kernel.here(send).unwrap();
        }
        assert_eq!(self.kernel.receive_mail(to, to, BATCH).unwrap().len(), 64);
    }

    fn trip(&self) {
        let [from, to] = self.agents;
        let payload = || Payload::Bytes(self.says[0].clone());
        let options = SendOptions { expects_reply: true, ..SendOptions::default() };
        let asked = self.kernel.send_with(from, &Recipient::Agent(to), payload(), &options).unwrap();
        assert_eq!(self.kernel.receive_mail(to, to, BATCH).unwrap().len(), 1);
        let options = SendOptions { in_reply_to: Some(asked.id), ..SendOptions::default() };
        self.kernel.send_with(to, &Recipient::Agent(from), payload(), &options).unwrap();
        assert!(self.kernel.take_reply_item(from, asked.id).unwrap().is_some());
    }

    /// One round, and how many messages it moved.
    fn round(&self, path: &str) -> u32 {
        match path {
            "batch" => self.many(Signing::Batch),
            "each" => self.many(Signing::Each),
            "single" => {
                self.single();
                return 64;
            }
            "trip" => {
                self.trip();
                return 1;
            }
            other => panic!("no path `{other}`"),
        }
        u32::try_from(BATCH).unwrap()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let town = Town::new();
    if let [path, rounds] = arguments.as_slice() {
        for _ in 0..rounds.parse::<usize>().unwrap() {
            town.round(path);
        }
        return;
    }
    for path in ["batch", "each", "single", "trip"] {
        let mut least = Duration::MAX;
        for _ in 0..RUNS {
            let begin = Instant::now();
            let moved: u32 = (0..ROUNDS).map(|_| town.round(path)).sum();
            least = least.min(begin.elapsed() / moved);
        }
        println!("{path:8} {:10.2} µs", least.as_secs_f64() * 1e6);
    }
}
