//! Messages between a `Kernel`'s agents.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use symbi_kernel as core;

use crate::convert::{agent_id, input, parsed, payload_in, principal, received_out, recipient_in};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

/// `(in_reply_to, expects_reply, at_least_once, id, lifetime_us)`
type OptionsTuple = (Option<String>, bool, bool, Option<String>, Option<u64>);

fn options_in(given: OptionsTuple) -> PyResult<core::SendOptions> {
    let (in_reply_to, expects_reply, at_least_once, id, lifetime_us) = given;
    let guarantee = if at_least_once { core::Guarantee::AtLeastOnce } else { core::Guarantee::AtMostOnce };
    Ok(core::SendOptions {
        in_reply_to: in_reply_to.map(|text| text.parse().map_err(input)).transpose()?,
        expects_reply,
        guarantee,
        id: id.map(|text| text.parse().map_err(input)).transpose()?,
        lifetime_us,
    })
}

/// A message whose intent is recorded; delivered once that is on disk.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct DurableSend {
    begun: std::sync::Mutex<Option<core::DurableSend>>,
    seq: u64,
}

#[pymethods]
impl DurableSend {
    #[getter]
    fn intent_seq(&self) -> u64 {
        self.seq
    }
}

#[pymethods]
impl Kernel {
    /// Answers the id, and the record where it has one of its own.
    #[pyo3(signature = (sender, recipient, payload, in_reply_to=None, expects_reply=false, options=None))]
    #[expect(clippy::too_many_arguments, reason = "the fields of a message")]
    fn send(
        &self,
        py: Python<'_>,
        sender: &str,
        recipient: &str,
        payload: &Bound<'_, PyAny>,
        in_reply_to: Option<&str>,
        expects_reply: bool,
        options: Option<OptionsTuple>,
    ) -> PyResult<(String, Option<u64>)> {
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let payload = payload_in(payload)?;
        let options = match options {
            Some(options) => options_in(options)?,
            None => core::SendOptions {
                in_reply_to: in_reply_to.map(|text| text.parse().map_err(input)).transpose()?,
                expects_reply,
                ..core::SendOptions::default()
            },
        };
        let sent = enter(py, || self.core.send_with(sender, &recipient, payload, &options))?;
        Ok((sent.id.to_string(), sent.seq))
    }

    /// Sends all, in order, in one crossing: all or, where one is refused, none. None stands for a message that had no
    /// room.
    #[pyo3(signature = (sender, messages, each=false))]
    fn send_many(
        &self,
        py: Python<'_>,
        sender: &str,
        messages: Vec<(String, Bound<'_, PyAny>)>,
        each: bool,
    ) -> PyResult<Vec<Option<String>>> {
        let sender = agent_id(sender)?;
        let messages = messages
            .iter()
            .map(|(recipient, payload)| Ok((recipient_in(recipient), payload_in(payload)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let signing = if each { core::Signing::Each } else { core::Signing::Batch };
        let sent = enter(py, || self.core.send_many(sender, messages, signing))?;
        sent.into_iter()
            .map(|one| match one {
                Ok(sent) => Ok(Some(sent.id.to_string())),
                Err(core::BusError::MailboxFull { .. }) => Ok(None),
                Err(error) => Err(Raise::from(core::MessageError::from(error)).into()),
            })
            .collect()
    }

    /// Records a message that is to survive a crash. Answers its id, and what delivers it when its record is on disk;
    /// None where it was taken before.
    fn begin_durable(
        &self,
        py: Python<'_>,
        sender: &str,
        recipient: &str,
        payload: &Bound<'_, PyAny>,
        options: OptionsTuple,
    ) -> PyResult<Option<DurableSend>> {
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let (payload, options) = (payload_in(payload)?, options_in(options)?);
        Ok(match enter(py, || self.core.begin_durable(sender, &recipient, payload, &options))? {
            core::Durable::Begun(begun) => {
                let seq = begun.intent_seq();
                Some(DurableSend { begun: std::sync::Mutex::new(Some(*begun)), seq })
            }
            core::Durable::Repeated(_) => None,
        })
    }

    fn deliver_durable(&self, py: Python<'_>, begun: &DurableSend) -> PyResult<String> {
        let taken = begun.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let begun = taken.ok_or_else(|| input("this message was delivered already"))?;
        let sent = enter(py, || self.core.deliver_durable(begun))?;
        Ok(sent.id.to_string())
    }

    /// What is in the agent's mailbox, or in `mailbox`: one of its subscriptions'.
    #[pyo3(signature = (agent, limit, mailbox=None))]
    fn receive_many<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        limit: usize,
        mailbox: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let agent = agent_id(agent)?;
        let mailbox = mailbox.map(agent_id).transpose()?.unwrap_or(agent);
        let received = enter(py, || self.core.receive_from(agent, mailbox, limit))?;
        received.into_iter().map(|one| received_out(py, one)).collect()
    }

    fn take_reply<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        request: &str,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let (agent, request) = (agent_id(agent)?, request.parse().map_err(input)?);
        let reply = enter(py, || self.core.take_reply(agent, request))?;
        reply.map(|one| received_out(py, one)).transpose()
    }

    fn forget_reply(&self, agent: &str, request: &str) -> PyResult<()> {
        self.core.forget_reply(agent_id(agent)?, request.parse().map_err(input)?);
        Ok(())
    }

    /// Answers the subscription's mailbox and the record.
    fn subscribe(&self, py: Python<'_>, agent: &str, pattern: &str) -> PyResult<(String, u64)> {
        let agent = agent_id(agent)?;
        let (mailbox, seq) = enter(py, || self.core.subscribe(agent, pattern))?;
        Ok((mailbox.to_string(), seq))
    }

    fn unsubscribe(&self, py: Python<'_>, agent: &str, mailbox: &str) -> PyResult<u64> {
        let (agent, mailbox) = (agent_id(agent)?, agent_id(mailbox)?);
        enter(py, || self.core.unsubscribe(agent, mailbox))
    }

    /// Answers the id, and the subscriptions that had no room.
    #[pyo3(signature = (sender, topic, payload, options, only=None))]
    fn publish(
        &self,
        py: Python<'_>,
        sender: &str,
        topic: &str,
        payload: &Bound<'_, PyAny>,
        options: OptionsTuple,
        only: Option<Vec<String>>,
    ) -> PyResult<(String, Vec<String>)> {
        let (sender, payload, options) = (agent_id(sender)?, payload_in(payload)?, options_in(options)?);
        let only = only.map(|texts| texts.iter().map(|text| agent_id(text)).collect::<PyResult<Vec<_>>>());
        let only = only.transpose()?;
        let published = enter(py, || self.core.publish(sender, topic, payload, &options, only.as_deref()))?;
        Ok((published.id.to_string(), published.full.iter().map(ToString::to_string).collect()))
    }

    /// How many messages a subscription had no room for.
    fn missed(&self, agent: &str, mailbox: &str) -> PyResult<u64> {
        Ok(self.core.missed(agent_id(agent)?, agent_id(mailbox)?).map_err(Raise::from)?)
    }

    /// An id for a message, to be sent under it.
    fn fresh_message_id(&self) -> String {
        self.core.fresh_message_id().to_string()
    }

    /// Answers the record to wait for; None where all were acknowledged before.
    fn acknowledge(
        &self,
        py: Python<'_>,
        agent: &str,
        mailbox: &str,
        messages: Vec<String>,
    ) -> PyResult<Option<u64>> {
        let (agent, mailbox) = (agent_id(agent)?, agent_id(mailbox)?);
        let ids = messages.iter().map(|text| parsed(text)).collect::<PyResult<Vec<_>>>()?;
        enter(py, || self.core.acknowledge(agent, mailbox, &ids))
    }

    fn give_back(&self, py: Python<'_>, agent: &str, mailbox: &str, message: &str) -> PyResult<()> {
        let (agent, mailbox, message) = (agent_id(agent)?, agent_id(mailbox)?, parsed(message)?);
        enter(py, || self.core.give_back(agent, mailbox, message))
    }

    /// Microseconds until a delivery is due; None while none is.
    fn deliveries_in_us(&self) -> Option<u64> {
        self.core.deliveries_due_in_us()
    }

    fn pass_deliveries(&self, py: Python<'_>) {
        py.detach(|| self.core.pass_deliveries());
    }

    /// The dead letters, and how many were let go for younger ones.
    fn dead_letters<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        let (dead, let_go) = py.detach(|| self.core.dead_letters());
        let shown = dead.into_iter().map(|one| {
            let dict = PyDict::new(py);
            dict.set_item("id", one.id.to_string())?;
            dict.set_item("mailbox", one.mailbox.to_string())?;
            dict.set_item("reason", one.reason.as_str())?;
            dict.set_item("attempts", one.attempts)?;
            let (sender, name, at) = match one.sent {
                Some((sender, name, at)) => (Some(sender.to_string()), Some(name), Some(at)),
                None => (None, None, None),
            };
            dict.set_item("sender", sender)?;
            dict.set_item("sender_name", name)?;
            dict.set_item("created_us", at)?;
            dict.set_item("topic", one.topic)?;
            Ok(dict)
        });
        Ok((shown.collect::<PyResult<_>>()?, let_go))
    }

    fn revive(&self, py: Python<'_>, by: &str, message: &str) -> PyResult<u64> {
        let (by, message) = (principal(by)?, parsed(message)?);
        enter(py, || self.core.revive(by, message))
    }
}
