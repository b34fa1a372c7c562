//! A payload in parts, each with the labels of what it came from.

use crate::LabelSet;

/// Where an extractive part was taken from: a byte range of a chunk that the knowledge base holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartSource {
    /// The chunk's id in the knowledge base.
    pub chunk: i64,
    /// First byte within the chunk's text.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A piece of text and its labels. `source` is a claim until the kernel has checked it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The text.
    pub text: String,
    /// What it carries.
    #[serde(default)]
    pub labels: LabelSet,
    /// Set where the text stands literally in a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PartSource>,
}
