//! Keys of a `Kernel`'s agents, and the one that vouches for them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use symbi_kernel as core;

use crate::convert::{agent_id, principal};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

impl From<core::KeyChangeError> for Raise {
    fn from(error: core::KeyChangeError) -> Self {
        match error {
            core::KeyChangeError::Agent(error) => error.into(),
            core::KeyChangeError::Bus(error) => core::MessageError::from(error).into(),
            core::KeyChangeError::File(error) => Self::new("CryptoError", error.to_string()),
        }
    }
}

fn shown<'py>(
    py: Python<'py>,
    name: &str,
    certificate: &core::Certificate,
    is_revoked: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("agent", certificate.agent.to_string())?;
    dict.set_item("name", name)?;
    dict.set_item("key", certificate.signing.key_id().to_string())?;
    dict.set_item("serial", format!("{:016x}", certificate.serial))?;
    dict.set_item("not_before_us", certificate.not_before_us)?;
    dict.set_item("not_after_us", certificate.not_after_us)?;
    dict.set_item("issuer", certificate.issuer.to_string())?;
    dict.set_item("revoked", is_revoked)?;
    dict.set_item("certificate", PyBytes::new(py, &certificate.to_bytes()))?;
    Ok(dict)
}

#[pymethods]
impl Kernel {
    /// Of all agents that have needed keys, by name.
    fn agent_keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let keys = py.detach(|| self.core.agent_keys());
        keys.iter().map(|one| shown(py, &one.name, &one.certificate, one.is_revoked)).collect()
    }

    /// Fingerprint of the key that vouches for agents.
    fn message_key(&self) -> String {
        self.core.message_key().to_string()
    }

    /// Answers the new certificate, and the record.
    fn rotate_agent_key<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        agent: &str,
    ) -> PyResult<(Bound<'py, PyDict>, u64)> {
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let (certificate, seq) = enter(py, || self.core.rotate_agent_key(by, agent))?;
        Ok((shown(py, "", &certificate, false)?, seq))
    }

    /// Answers the certificate that was taken back, and the record.
    fn revoke_agent_key<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        agent: &str,
    ) -> PyResult<(Bound<'py, PyDict>, u64)> {
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let (certificate, seq) = enter(py, || self.core.revoke_agent_key(by, agent))?;
        Ok((shown(py, "", &certificate, true)?, seq))
    }

    /// `(before, after, certificates made, record)`.
    #[pyo3(signature = (by, passphrase=None))]
    fn rotate_message_key(
        &self,
        py: Python<'_>,
        by: &str,
        passphrase: Option<Vec<u8>>,
    ) -> PyResult<(String, String, usize, u64)> {
        let by = principal(by)?;
        let passphrase = passphrase.map(Into::into);
        let exchange = enter(py, || self.core.rotate_message_key(by, passphrase))?;
        Ok((exchange.before.to_string(), exchange.after.to_string(), exchange.renewed, exchange.seq))
    }
}
