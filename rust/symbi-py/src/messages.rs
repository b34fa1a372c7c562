//! Messages between a `Kernel`'s agents.

use pyo3::prelude::*;
use symbi_kernel as core;

use crate::convert::{agent_id, input, parsed, payload_in, recipient_in};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

/// `(in_reply_to, expects_reply, at_least_once, id, lifetime_us)`
pub(crate) type OptionsTuple = (Option<String>, bool, bool, Option<String>, Option<u64>);

pub(crate) fn options_in(given: OptionsTuple) -> PyResult<core::SendOptions> {
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

    /// Nobody waits for it any more: it is not sent. After its delivery this does nothing.
    fn give_up(&self, py: Python<'_>) {
        let begun = self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        py.detach(|| drop(begun));
    }
}

#[pymethods]
impl Kernel {
    /// Answers the id, and the record where it has one of its own; and, where the caller is to tell them (`here`), the
    /// mailboxes that have something now.
    #[pyo3(signature = (sender, recipient, payload, in_reply_to=None, expects_reply=false, options=None, here=false))]
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
        here: bool,
    ) -> PyResult<(String, Option<u64>, Vec<String>)> {
        self.is_of_this_process()?;
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let payload = payload_in(&self.core, payload)?;
        let options = match options {
            Some(options) => options_in(options)?,
            None => core::SendOptions {
                in_reply_to: in_reply_to.map(|text| text.parse().map_err(input)).transpose()?,
                expects_reply,
                ..core::SendOptions::default()
            },
        };
        let send = || self.core.send_with(sender, &recipient, payload, &options);
        let (sent, filled) =
            enter(py, || if here { self.core.here(send) } else { send().map(|sent| (sent, Vec::new())) })?;
        Ok((sent.id.to_string(), sent.seq, filled.iter().map(ToString::to_string).collect()))
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
        self.is_of_this_process()?;
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let (payload, options) = (payload_in(&self.core, payload)?, options_in(options)?);
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
        self.is_of_this_process()?;
        let (sender, payload, options) =
            (agent_id(sender)?, payload_in(&self.core, payload)?, options_in(options)?);
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
}
