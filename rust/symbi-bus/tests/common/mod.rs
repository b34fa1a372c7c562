//! A bus with a few agents, at a fixed time.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use symbi_bus::{Bus, BusError, BusOptions, ContentType, Opened, Outgoing, Refusal, SecureMessage};
use symbi_crypto::Provider;
use symbi_testkit::{FakeClock, SeededEntropy};
use symbi_types::{AgentId, LabelSet, MessageId};

pub const NOW: u64 = FakeClock::START_US;

pub struct Town {
    pub bus: Bus,
    pub agents: Vec<AgentId>,
    pub entropy: Arc<SeededEntropy>,
}

impl Town {
    pub fn new(agents: usize, options: BusOptions) -> Self {
        Self::seeded(agents, options, 7)
    }

    pub fn seeded(agents: usize, options: BusOptions, seed: u64) -> Self {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let bus = Bus::new(options, entropy.clone(), Provider::AwsLc);
        let agents: Vec<AgentId> = (0..agents).map(|_| AgentId::random(&*entropy)).collect();
        for agent in &agents {
            bus.register(*agent).unwrap();
        }
        Self { bus, agents, entropy }
    }

    pub fn outgoing<'a>(
        &self,
        from: usize,
        to: usize,
        payload: &'a [u8],
        labels: &'a LabelSet,
    ) -> Outgoing<'a> {
        Outgoing {
            sender: self.agents[from],
            recipient: self.agents[to],
            id: None,
            payload,
            content_type: ContentType::Bytes,
            labels,
            in_reply_to: None,
            expects_reply: false,
            lifetime_us: None,
        }
    }

    pub fn send(&self, from: usize, to: usize, payload: &[u8]) -> Result<MessageId, BusError> {
        self.bus
            .seal_and_deliver(&self.outgoing(from, to, payload, &LabelSet::default()), NOW)
            .map(|sent| sent.id)
    }

    pub fn ask(&self, from: usize, to: usize, payload: &[u8]) -> Result<MessageId, BusError> {
        let labels = LabelSet::default();
        let outgoing = Outgoing { expects_reply: true, ..self.outgoing(from, to, payload, &labels) };
        self.bus.seal_and_deliver(&outgoing, NOW).map(|sent| sent.id)
    }

    pub fn answer(
        &self,
        from: usize,
        to: usize,
        request: MessageId,
        payload: &[u8],
    ) -> Result<MessageId, BusError> {
        let labels = LabelSet::default();
        let outgoing = Outgoing { in_reply_to: Some(request), ..self.outgoing(from, to, payload, &labels) };
        self.bus.seal_and_deliver(&outgoing, NOW).map(|sent| sent.id)
    }

    pub fn read(&self, agent: usize) -> Vec<Opened> {
        let received = self.bus.receive_many(self.agents[agent], usize::MAX, NOW).unwrap();
        assert_eq!(received.refused, []);
        received.opened
    }

    /// Delivers what somebody made of bytes, and the reason for which the agent refuses it.
    pub fn refusal_at(&self, agent: usize, message: SecureMessage, now_us: u64) -> Option<Refusal> {
        self.bus.deliver(self.agents[agent], message).unwrap();
        let received = self.bus.receive_many(self.agents[agent], usize::MAX, now_us).unwrap();
        assert_eq!(received.opened.len() + received.refused.len(), 1);
        received.refused.first().map(|refused| refused.reason)
    }

    pub fn refusal(&self, agent: usize, message: SecureMessage) -> Option<Refusal> {
        self.refusal_at(agent, message, NOW)
    }
}

pub fn labels(labels: &[&str]) -> LabelSet {
    labels.iter().map(|label| label.parse().unwrap()).collect()
}
