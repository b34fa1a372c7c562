//! Publications that are kept, and dead letters, of a `Kernel`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use symbi_kernel as core;

use crate::convert::{agent_id, input, parsed, payload_in, principal};
use crate::errors::enter;
use crate::kernel::Kernel;
use crate::mail::body_out;
use crate::messages::{OptionsTuple, options_in};

/// A publication whose intent is recorded; delivered once that is on disk.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct DurablePublish {
    begun: std::sync::Mutex<Option<core::DurablePublish>>,
    seq: u64,
}

#[pymethods]
impl DurablePublish {
    #[getter]
    fn intent_seq(&self) -> u64 {
        self.seq
    }

    /// Nobody waits for it any more: nobody hears it. After its delivery this does nothing.
    fn give_up(&self, py: Python<'_>) {
        let begun = self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        py.detach(|| drop(begun));
    }
}

fn mailbox_in(mailbox: Option<&str>) -> PyResult<Option<symbi_types::AgentId>> {
    mailbox.map(agent_id).transpose()
}

#[pymethods]
impl Kernel {
    /// Records a publication that is to survive a crash. None where nobody is to hear it, or all have.
    fn begin_durable_publish(
        &self,
        py: Python<'_>,
        sender: &str,
        topic: &str,
        payload: &Bound<'_, PyAny>,
        options: OptionsTuple,
    ) -> PyResult<Option<DurablePublish>> {
        self.is_of_this_process()?;
        let (sender, payload, options) =
            (agent_id(sender)?, payload_in(&self.core, payload)?, options_in(options)?);
        let begun = enter(py, || self.core.begin_durable_publish(sender, topic, payload, &options))?;
        Ok(match begun {
            core::DurablePublication::Begun(begun) => {
                let seq = begun.intent_seq();
                Some(DurablePublish { begun: std::sync::Mutex::new(Some(*begun)), seq })
            }
            core::DurablePublication::Nobody(_) => None,
        })
    }

    fn deliver_durable_publish(&self, py: Python<'_>, begun: &DurablePublish) -> PyResult<String> {
        let taken = begun.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let begun = taken.ok_or_else(|| input("this publication was delivered already"))?;
        Ok(enter(py, || self.core.deliver_durable_publish(begun))?.id.to_string())
    }

    /// The dead letters, and how many were let go for younger ones.
    fn dead_letters<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        let (dead, let_go) = py.detach(|| self.core.dead_letters());
        let shown = dead.into_iter().map(|one| {
            let dict = PyDict::new(py);
            dict.set_item("id", one.id.to_string())?;
            dict.set_item("mailbox", one.mailbox.to_string())?;
            dict.set_item("recipient", one.recipient.map(|agent| agent.to_string()))?;
            dict.set_item("recipient_name", one.recipient_name)?;
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
            let labels: Vec<String> = one.labels.iter().map(ToString::to_string).collect();
            dict.set_item("labels", labels)?;
            Ok(dict)
        });
        Ok((shown.collect::<PyResult<_>>()?, let_go))
    }

    /// What a dead letter says, and the record of its reading.
    #[pyo3(signature = (by, message, mailbox=None))]
    fn read_dead_letter<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        message: &str,
        mailbox: Option<&str>,
    ) -> PyResult<(Bound<'py, PyAny>, u64)> {
        let (by, message, mailbox) = (principal(by)?, parsed(message)?, mailbox_in(mailbox)?);
        let (payload, seq) = enter(py, || self.core.read_dead_letter(by, message, mailbox))?;
        Ok((body_out(py, &payload)?, seq))
    }

    #[pyo3(signature = (by, message, mailbox=None))]
    fn revive(&self, py: Python<'_>, by: &str, message: &str, mailbox: Option<&str>) -> PyResult<u64> {
        let (by, message, mailbox) = (principal(by)?, parsed(message)?, mailbox_in(mailbox)?);
        enter(py, || self.core.revive(by, message, mailbox))
    }

    #[pyo3(signature = (by, message, mailbox=None))]
    fn discard(&self, py: Python<'_>, by: &str, message: &str, mailbox: Option<&str>) -> PyResult<u64> {
        let (by, message, mailbox) = (principal(by)?, parsed(message)?, mailbox_in(mailbox)?);
        enter(py, || self.core.discard(by, message, mailbox))
    }
}
