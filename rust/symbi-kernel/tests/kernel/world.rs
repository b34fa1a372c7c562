//! A kernel on a directory of its own, under a clock that stands still, with a log on real files or on a faulty disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use symbi_audit::{Reader, Record, VerifyOptions};
use symbi_crypto::Provider;
use symbi_kernel::{
    AdmissionLimits, AgentError, AgentSpec, Begun, Kernel, KernelError, KernelOptions, MessagingOptions,
    Outcome, Passage, Permit, Policies, Principal, Priority, Refusal, SchedulingOptions, Share,
    SupervisorOptions, ToolCall, ToolSpec,
};
use symbi_policy::{CounterSpec, Per, Source};
use symbi_testkit::{Disk, FakeClock, SeededEntropy};
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, SecurityTier, Storage};

use crate::stall::{Stalled, StallingDisk};

/// Longest wait for a disk that works.
pub const SOON: Duration = Duration::from_secs(5);
/// The operator of all tests.
pub const OPERATOR: Principal = Principal::Operator(1000);
/// Every agent may do everything; the demands of single tests come on top.
pub const OPEN: &str = "permit(principal, action, resource);";

pub struct World {
    pub directory: tempfile::TempDir,
    pub clock: Arc<FakeClock>,
    pub disk: Option<Disk>,
    /// In front of `disk`.
    pub stalling: Option<StallingDisk>,
    pub policies: Option<Policies>,
    pub admission: AdmissionLimits,
    pub messaging: MessagingOptions,
    pub agents_max: usize,
    pub capacity: ResourceVector,
    pub scheduling: SchedulingOptions,
    pub supervision: SupervisorOptions,
    pub tenants: Vec<(String, Share)>,
    pub seed: u64,
    pub snapshot_records: u64,
    pub mailbox_depth_max: usize,
    /// Of the log, and whoever seals and opens.
    pub signers: usize,
    pub keeping: symbi_kernel::KeepingOptions,
}

pub fn policies(text: &str, counters: &[CounterSpec]) -> Policies {
    let sources = vec![Source { name: "test.cedar".to_owned(), text: text.to_owned() }];
    Policies { sources, counters: counters.to_vec() }
}

/// `context.counters.calls` of `tool.call`, a minute, each principal for itself.
pub fn calls(per: Per) -> CounterSpec {
    CounterSpec::counting("calls", "tool.call", per, 60_000_000)
}

/// Everything, and at most so many tool calls a minute.
pub fn at_most(count: u64, per: Per) -> Policies {
    let text = format!(
        "{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource) when {{ context.counters.calls > {count} }};"
    );
    policies(&text, &[calls(per)])
}

pub fn labels(names: &[&str]) -> LabelSet {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

impl World {
    /// Everything is allowed.
    pub fn open_to_all() -> Self {
        Self::with(Some(policies(OPEN, &[])))
    }

    pub fn with(policies: Option<Policies>) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(FakeClock::new()),
            disk: None,
            stalling: None,
            policies,
            admission: AdmissionLimits::default(),
            messaging: MessagingOptions::default(),
            agents_max: 1_000,
            capacity: ResourceVector::from_array([4_096, 8_000, 1_000, 1_000, 0, 2]),
            scheduling: SchedulingOptions::default(),
            supervision: SupervisorOptions::default(),
            tenants: Vec::new(),
            seed: 7,
            mailbox_depth_max: 64,
            signers: 1,
            snapshot_records: symbi_kernel::SNAPSHOT_RECORDS,
            keeping: symbi_kernel::KeepingOptions::default(),
        }
    }

    /// The log stands on a disk that fails on demand.
    pub fn on_disk(mut self) -> Self {
        self.disk = Some(Disk::new());
        self
    }

    /// The log stands on a disk that stands still on demand.
    pub fn on_stalling_disk(mut self) -> Self {
        let stalling = StallingDisk::default();
        self.disk = Some(stalling.disk.clone());
        self.stalling = Some(stalling);
        self
    }

    pub fn stall(&self) -> Stalled {
        self.stalling.as_ref().unwrap().stall()
    }

    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn try_kernel_at(&self, data: &Path) -> Result<Arc<Kernel>, KernelError> {
        self.try_kernel_on(data, None)
    }

    pub fn try_kernel_on(&self, data: &Path, trail: Option<PathBuf>) -> Result<Arc<Kernel>, KernelError> {
        Kernel::open(KernelOptions {
            data: data.to_owned(),
            trail,
            policies: self.policies.clone(),
            enforce: true,
            passphrase: None,
            provider: Provider::default(),
            signers: self.signers,
            capacity: self.capacity,
            scheduling: self.scheduling,
            supervision: self.supervision,
            tenants: self.tenants.clone(),
            agents_max: self.agents_max,
            mailbox_depth_max: self.mailbox_depth_max,
            mailbox_bytes_max: 4 << 20,
            admission: self.admission,
            messaging: self.messaging,
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(self.seed)),
            storage: match (&self.stalling, &self.disk) {
                (Some(stalling), _) => Some(Arc::new(stalling.clone()) as Arc<dyn Storage>),
                (None, Some(disk)) => Some(Arc::new(disk.clone()) as Arc<dyn Storage>),
                (None, None) => None,
            },
            snapshot_records: self.snapshot_records,
            subject_key_backups: Vec::new(),
            keeping: self.keeping,
        })
    }

    /// Opens it, or opens it again. A second opening has other random numbers, as every opening has.
    pub fn kernel(&mut self) -> Arc<Kernel> {
        self.seed += 1;
        self.try_kernel_at(&self.data()).unwrap()
    }

    /// A copy of the data as a killed process leaves it, opened. Only what is in the files counts.
    pub fn crashed(&mut self) -> (Arc<Kernel>, tempfile::TempDir) {
        let data = self.data();
        self.crashed_at(&data)
    }

    /// The same of data that were opened elsewhere.
    pub fn crashed_at(&mut self, data: &Path) -> (Arc<Kernel>, tempfile::TempDir) {
        let image = tempfile::tempdir().unwrap();
        copy(data, image.path());
        self.seed += 1;
        (self.try_kernel_at(image.path()).unwrap(), image)
    }

    /// All records on disk now.
    pub fn records(&self) -> Vec<Record> {
        self.records_of(&self.data())
    }

    pub fn records_of(&self, data: &Path) -> Vec<Record> {
        let trail = data.join("trail");
        let reader = match &self.disk {
            Some(disk) => Reader::with_storage(&trail, Arc::new(disk.clone())),
            None => Reader::open(&trail),
        };
        reader.unwrap().records(0).map(Result::unwrap).collect()
    }

    pub fn of_type(&self, event_type: &str) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.event_type == event_type).collect()
    }

    pub fn verify(&self) -> u64 {
        let storage = self.disk.clone().map(|disk| Arc::new(disk) as Arc<dyn Storage>);
        symbi_audit::verify(
            &self.data().join("trail"),
            &VerifyOptions { storage, ..VerifyOptions::default() },
        )
        .unwrap()
        .records
    }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap(); // with its mode
        }
    }
}

pub fn spec(name: &str) -> AgentSpec {
    AgentSpec {
        name: name.to_owned(),
        kind: "program".to_owned(),
        in_process: false,
        tier: SecurityTier::Docker,
        assessed: None,
        capabilities: vec!["knowledge:write".to_owned()],
        labels: LabelSet::default(),
        tenant: "default".to_owned(),
        limits: ResourceLimits::default(),
        supervision: None,
    }
}

pub fn agent(kernel: &Kernel, name: &str) -> AgentId {
    kernel.create_agent(Principal::Host, Arc::new(spec(name))).unwrap().0
}

pub fn tool(kernel: &Kernel, name: &str) {
    let words = |text: &str| text.to_owned();
    kernel
        .register_tool(&ToolSpec {
            name: words(name),
            effects: words("external"),
            risk: words("low"),
            idempotent: false,
        })
        .unwrap();
}

pub fn call(name: &str) -> ToolCall {
    ToolCall { tool: name.to_owned(), arguments: br#"{"n":1}"#.to_vec(), ..ToolCall::default() }
}

pub fn ask(kernel: &Arc<Kernel>, by: AgentId, name: &str) -> Result<Permit, AgentError> {
    kernel.begin_tool_call(Principal::Agent(by), call(name))
}

/// The intent is on disk and the bytes are out: from here on anything may have happened.
pub fn take(kernel: &Kernel, permit: &Permit) -> Vec<u8> {
    kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
    permit.take().unwrap()
}

/// One whole call.
pub fn act(kernel: &Arc<Kernel>, by: AgentId, name: &str) {
    let permit = ask(kernel, by, name).unwrap();
    take(kernel, &permit);
    let seq = permit.settle(&Outcome::Done).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
}

pub fn refusal<T: std::fmt::Debug>(result: Result<T, AgentError>) -> Refusal {
    match result.unwrap_err() {
        AgentError::Refused(refusal) => refusal,
        other => panic!("not a refusal: {other}"),
    }
}

pub fn run(kernel: &Kernel, agent: AgentId) -> Begun {
    kernel.begin_run(Principal::Host, agent, b"", &LabelSet::default(), Priority::NORMAL).unwrap()
}

pub fn passage(text: &str) -> Passage {
    Passage {
        text: Some(text.to_owned()),
        digest: None,
        labels: LabelSet::default(),
        start: 0,
        end: text.len() as u64,
    }
}

pub fn details(record: &Record) -> serde_json::Value {
    serde_json::from_str(&record.details).unwrap()
}

/// Everything recorded so far is on disk.
pub fn settle_disk(kernel: &Kernel, agent: AgentId) {
    let seq = kernel.note(agent, "-").unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
}
