//! Messages between a `Kernel`'s agents.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use symbi_kernel as core;

use crate::convert::{agent_id, input, payload_in, received_out, recipient_in};
use crate::errors::enter;
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    #[pyo3(signature = (sender, recipient, payload, in_reply_to=None, expects_reply=false))]
    fn send(
        &self,
        py: Python<'_>,
        sender: &str,
        recipient: &str,
        payload: &Bound<'_, PyAny>,
        in_reply_to: Option<&str>,
        expects_reply: bool,
    ) -> PyResult<(String, u64)> {
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let payload = payload_in(payload)?;
        let reply = in_reply_to.map(|text| text.parse().map_err(input)).transpose()?;
        let (id, seq) = enter(py, || self.core.send(sender, &recipient, payload, reply, expects_reply))?;
        Ok((id.to_string(), seq))
    }

    /// Sends all, in order, in one crossing. Stops at the first that is refused or fails, and raises it.
    fn send_many(
        &self,
        py: Python<'_>,
        sender: &str,
        messages: Vec<(String, Bound<'_, PyAny>)>,
    ) -> PyResult<(Vec<String>, Option<u64>)> {
        let sender = agent_id(sender)?;
        let messages = messages
            .iter()
            .map(|(recipient, payload)| Ok((recipient_in(recipient), payload_in(payload)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let sent = enter(py, || -> Result<Vec<_>, core::MessageError> {
            messages
                .into_iter()
                .map(|(recipient, payload)| self.core.send(sender, &recipient, payload, None, false))
                .collect()
        })?;
        let last = sent.last().map(|(_, seq)| *seq);
        Ok((sent.into_iter().map(|(id, _)| id.to_string()).collect(), last))
    }

    fn receive_many<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let agent = agent_id(agent)?;
        let received = enter(py, || self.core.receive_many(agent, limit))?;
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
}
