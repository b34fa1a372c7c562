//! Messages on their way across the border, many at a time: one crossing, and a value for what somebody looks at.
//!
//! Not here: what a message is (`symbi_kernel`), the sequence that people see (`symbi/agents/many.py`).

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use symbi_kernel as core;
use symbi_types::MessageId;

use crate::convert::{agent_id, input, part_out, payload_in, recipient_in, texts};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

/// What was taken out of a mailbox.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct Mail {
    mail: core::Mail,
}

pub(crate) fn body_out<'py>(py: Python<'py>, body: &core::Body) -> PyResult<Bound<'py, PyAny>> {
    match body {
        core::Body::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        core::Body::Parts(parts) => Ok(PyList::new(py, parts.iter().cloned().map(part_out))?.into_any()),
    }
}

/// `(id, sender, sender_name, payload, [label, …], created_us, in_reply_to, topic, attempt)`
pub(crate) fn item_out<'py>(py: Python<'py>, item: &core::Item) -> PyResult<Bound<'py, PyTuple>> {
    (
        item.id.to_string(),
        item.sender.to_string(),
        &*item.sender_name,
        body_out(py, &item.body)?,
        texts(&item.labels),
        item.created_us,
        item.in_reply_to.map(|id| id.to_string()),
        item.topic.as_ref().map(ToString::to_string),
        item.attempt,
    )
        .into_pyobject(py)
}

#[pymethods]
impl Mail {
    fn __len__(&self) -> usize {
        self.mail.len()
    }

    /// One message, by a place that is not negative.
    fn row<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyTuple>> {
        let item = self.mail.get(at).ok_or_else(|| PyIndexError::new_err("no such message"))?;
        item_out(py, item)
    }

    /// All messages.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.mail.iter().map(|item| item_out(py, item)).collect()
    }

    /// What each says; parts as `parts` makes them of their shapes.
    fn payloads<'py>(&self, py: Python<'py>, parts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let bodies = self.mail.iter().map(|item| match &item.body {
            core::Body::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            core::Body::Parts(_) => parts.call1((body_out(py, &item.body)?,)),
        });
        PyList::new(py, bodies.collect::<PyResult<Vec<_>>>()?)
    }
}

/// The ids of messages that were sent together.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct SentIds {
    ids: Vec<Option<MessageId>>,
}

#[pymethods]
impl SentIds {
    fn __len__(&self) -> usize {
        self.ids.len()
    }

    /// The id of one, by a place that is not negative; None where it had no room.
    fn text(&self, at: usize) -> PyResult<Option<String>> {
        let id = self.ids.get(at).ok_or_else(|| PyIndexError::new_err("no such message"))?;
        Ok(id.map(|id| id.to_string()))
    }

    /// The places of those that had no room.
    fn left(&self) -> Vec<usize> {
        let places = self.ids.iter().enumerate();
        places.filter(|(_, id)| id.is_none()).map(|(place, _)| place).collect()
    }
}

/// Recipients by the objects that named them: messages to one recipient name it with one object.
struct Names<'py> {
    last: Option<Bound<'py, PyAny>>,
    at: usize,
}

impl<'py> Names<'py> {
    fn place(&mut self, named: Bound<'py, PyAny>, parcel: &mut core::Parcel) -> PyResult<usize> {
        if self.last.as_ref().is_some_and(|last| last.is(&named)) {
            return Ok(self.at);
        }
        let text = match named.cast::<PyString>() {
            Ok(text) => text.clone(),
            Err(_) => {
                let id = named.getattr("id").and_then(|id| Ok(id.cast_into::<PyString>()?));
                id.map_err(|_| input("a recipient is a handle, an id or a name"))?
            }
        };
        self.at = parcel.recipient(recipient_in(&text.to_cow()?));
        self.last = Some(named);
        Ok(self.at)
    }
}

fn parcel_in(
    kernel: &core::Kernel,
    messages: &Bound<'_, PyList>,
    shape: &Bound<'_, PyAny>,
) -> PyResult<core::Parcel> {
    let mut parcel = core::Parcel::with_capacity(messages.len());
    let mut names = Names { last: None, at: 0 };
    for row in messages {
        let pair: PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = row.extract();
        let (named, payload) = pair.map_err(|_| input("a message to send is a recipient and a payload"))?;
        let at = names.place(named, &mut parcel)?;
        match payload.cast::<PyBytes>() {
            Ok(bytes) => parcel.add_bytes(at, bytes.as_bytes()),
            Err(_) => parcel.add(at, payload_in(kernel, &shape.call1((&payload,))?)?),
        }
    }
    Ok(parcel)
}

#[pymethods]
impl Kernel {
    /// Sends all, in order, in one crossing: all or, where one is refused, none. A recipient is a text, or has one as its
    /// `id`; a payload that is not bytes is brought into shape first. Answers the ids, and the mailboxes that have
    /// something now, for the caller to tell.
    fn send_many(
        &self,
        py: Python<'_>,
        sender: &str,
        messages: &Bound<'_, PyList>,
        shape: &Bound<'_, PyAny>,
        each: bool,
    ) -> PyResult<(SentIds, Vec<String>)> {
        self.is_of_this_process()?;
        let (sender, parcel) = (agent_id(sender)?, parcel_in(&self.core, messages, shape)?);
        let signing = if each { core::Signing::Each } else { core::Signing::Batch };
        let (sent, filled) = enter(py, || self.core.here(|| self.core.send_parcel(sender, parcel, signing)))?;
        let ids = sent.into_iter().map(|one| match one {
            Ok(sent) => Ok(Some(sent.id)),
            Err(core::BusError::MailboxFull { .. }) => Ok(None),
            Err(error) => Err(PyErr::from(Raise::from(core::MessageError::from(error)))),
        });
        let ids = ids.collect::<PyResult<_>>()?;
        Ok((SentIds { ids }, filled.iter().map(ToString::to_string).collect()))
    }

    /// What is in the agent's mailbox, or in `mailbox`: one of its subscriptions'. None where that is nothing.
    #[pyo3(signature = (agent, limit, mailbox=None))]
    fn receive_many(
        &self,
        py: Python<'_>,
        agent: &str,
        limit: usize,
        mailbox: Option<&str>,
    ) -> PyResult<Option<Mail>> {
        self.is_of_this_process()?;
        let agent = agent_id(agent)?;
        let mailbox = mailbox.map(agent_id).transpose()?.unwrap_or(agent);
        let mail = enter(py, || self.core.receive_mail(agent, mailbox, limit))?;
        Ok((!mail.is_empty()).then_some(Mail { mail }))
    }

    fn take_reply<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        request: &str,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let (agent, request) = (agent_id(agent)?, request.parse().map_err(input)?);
        let reply = enter(py, || self.core.take_reply_item(agent, request))?;
        reply.map(|item| item_out(py, &item)).transpose()
    }

    /// Seals and opens a payload so many times, as a message is: for benches.
    fn seal_and_open(&self, py: Python<'_>, payload: &[u8], times: u64) -> PyResult<()> {
        let sealed = py.detach(|| self.core.seal_and_open(payload, times));
        Ok(sealed.map_err(|error| Raise::new("CryptoError", error.to_string()))?)
    }
}
