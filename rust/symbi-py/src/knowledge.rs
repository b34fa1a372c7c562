//! The knowledge base of a `Kernel`.

use pyo3::prelude::*;
use symbi_kernel as core;

use crate::convert::{CitationTuple, PassageTuple, agent_id, citation_out, labels_in};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    /// `passages`: `(text | None, digest | None, labels, start, end)`. Answers the content's digest and the record.
    fn ingest(
        &self,
        py: Python<'_>,
        by: &str,
        title: &str,
        passages: Vec<PassageTuple>,
    ) -> PyResult<(String, u64)> {
        let by = agent_id(by)?;
        let passages = passages
            .into_iter()
            .map(|(text, digest, declared, start, end)| {
                Ok(core::Passage { text, digest, labels: labels_in(&self.core, &declared)?, start, end })
            })
            .collect::<PyResult<_>>()?;
        enter(py, || self.core.ingest(by, title, passages))
    }

    fn store_document(&self, by: &str, content: &str, readers: Vec<String>) -> PyResult<(String, u64)> {
        let (id, seq) = self.core.store_document(agent_id(by)?, content, &readers).map_err(Raise::from)?;
        Ok((id.to_string(), seq))
    }

    fn write_document(
        &self,
        py: Python<'_>,
        by: &str,
        title: &str,
        text: &str,
        readers: Vec<String>,
        labels: Vec<String>,
    ) -> PyResult<(String, u64)> {
        let (by, labels) = (agent_id(by)?, labels_in(&self.core, &labels)?);
        let (id, seq) = enter(py, || self.core.write_labelled(by, title, text, &readers, &labels))?;
        Ok((id.to_string(), seq))
    }

    fn search(
        &self,
        py: Python<'_>,
        by: &str,
        text: &str,
        limit: usize,
    ) -> PyResult<(Vec<CitationTuple>, u64)> {
        let by = agent_id(by)?;
        let (answer, seq) = enter(py, || self.core.search(by, text, limit))?;
        Ok((answer.into_iter().map(citation_out).collect(), seq))
    }

    fn answer(
        &self,
        py: Python<'_>,
        by: &str,
        question: &str,
        limit: usize,
    ) -> PyResult<(Vec<CitationTuple>, u64)> {
        let by = agent_id(by)?;
        let (answer, seq) = enter(py, || self.core.answer(by, question, limit))?;
        Ok((answer.into_iter().map(citation_out).collect(), seq))
    }

    fn knowledge_counts(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let counts = py
            .detach(|| self.core.knowledge_counts())
            .map_err(|error| Raise::from(core::KnowledgeError::from(error)))?;
        Ok((counts.documents, counts.chunks, counts.withheld))
    }
}
