//! `scout`: reads a tree of files and says what is in it, labelled.
//!
//! Why: everything that enters the knowledge base comes from files that nobody has vouched for. They are parsed here,
//! inside a sandbox, and leave it as lines.
//! Not here: formats other than plain text; a PDF is `skipped` with its reason. Lines: docs/formats/scout.md.
//!
//! Invariants (with G1, G4 of the crate)
//! - S1 every entry that was met is in exactly one line or one count of the summary: nothing is dropped in silence.
//! - S2 a passage that touches a secret has no text.
//! - S3 passages of a file follow each other without gap or overlap, and no border cuts a finding.
//! - S4 the same tree gives the same lines.

mod ignored;
mod names;
mod passages;
mod walk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::output::{Stop, emit};

/// Files read when nothing is asked, and at most: a demo's two thousand, and what one run should ever hold in a store.
const FILES: (u64, u64) = (2_000, 1_000_000);
/// Bytes of one file when nothing is asked, and at most: the detectors' own limit.
const FILE_BYTES: (u64, u64) = (1 << 20, symbi_detect::TEXT_BYTES_MAX as u64);
/// Lines about skipped entries; further ones are only counted, or a tree of a million pictures would be a flood.
const SKIPPED_LINES_MAX: u64 = 10_000;

/// What was asked.
#[derive(Debug)]
pub(crate) struct Options {
    root: OsString,
    files_max: u64,
    file_bytes_max: u64,
}

impl Options {
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, Stop> {
        let mut options = Self { root: OsString::new(), files_max: FILES.0, file_bytes_max: FILE_BYTES.0 };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(Stop::usage("every option of `scout` has a value")) };
            let number = |most: u64| {
                let value = value.to_str().and_then(|value| value.parse::<u64>().ok());
                let value = value.filter(|value| (1..=most).contains(value));
                value.ok_or_else(|| Stop::usage(format!("`{}` must be 1 to {most}", name.to_string_lossy())))
            };
            match name.as_bytes() {
                b"--root" => options.root.clone_from(value),
                b"--files-max" => options.files_max = number(FILES.1)?,
                b"--file-bytes-max" => options.file_bytes_max = number(FILE_BYTES.1)?,
                _ => {
                    return Err(Stop::usage(format!("`{}` is no option of `scout`", name.to_string_lossy())));
                }
            }
        }
        if options.root.is_empty() {
            return Err(Stop::usage("`scout` needs `--root DIR`"));
        }
        Ok(options)
    }
}

/// Counts that the summary gives.
#[derive(Debug, Default)]
struct Counts {
    files: u64,
    bytes: u64,
    passages: u64,
    withheld: u64,
    findings: u64,
    left_out: u64,
    skipped: BTreeMap<&'static str, u64>,
    labels: BTreeMap<String, u64>,
}

/// Reads the tree and writes its lines to stdout.
pub(crate) fn main(options: &Options) -> Result<(), Stop> {
    let root = walk::open_root(&options.root).map_err(|error| {
        let root = options.root.to_string_lossy().into_owned();
        Stop::refused("path.unusable", &root, format!("`{root}` cannot be read as a directory: {error}"))
    })?;
    let out = BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
    scan(root, options, out)
}

fn scan(root: OwnedFd, options: &Options, out: impl Write) -> Result<(), Stop> {
    let mut scout = Scout { counts: Counts::default(), options, out, skipped_lines: 0 };
    let end = walk::walk(root, &mut |entry| scout.entry(&entry))?;
    let counts = &scout.counts;
    let line = json!({
        "type": "summary", "format": 1, "files": counts.files, "bytes": counts.bytes, "passages": counts.passages,
        "passages_withheld": counts.withheld, "findings": counts.findings, "labels": counts.labels,
        "skipped": counts.skipped, "left_out": counts.left_out, "entries": end.entries, "complete": end.complete,
        "files_max": options.files_max, "file_bytes_max": options.file_bytes_max,
    });
    line_out(&mut scout.out, &line)?;
    scout.out.flush().map_err(|_| Stop::Unread)
}

/// One line, flushed with the buffer and not each by itself.
fn line_out(out: &mut impl Write, line: &Value) -> Result<(), Stop> {
    struct Unflushed<'a, W: Write>(&'a mut W);
    impl<W: Write> Write for Unflushed<'_, W> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    emit(&mut Unflushed(out), line)
}

struct Scout<'a, W: Write> {
    counts: Counts,
    options: &'a Options,
    out: W,
    skipped_lines: u64,
}

impl<W: Write> Scout<'_, W> {
    fn entry(&mut self, entry: &walk::Entry<'_>) -> Result<(), Stop> {
        match entry {
            walk::Entry::Skipped { path, reason } => self.skip(path, reason),
            walk::Entry::File { path, .. } if self.options.files_max <= self.counts.files => {
                let _ = path;
                self.counts.left_out += 1; // S1: not opened, and counted aloud
                Ok(())
            }
            walk::Entry::File { path, directory, name } => {
                match walk::read(directory, name, self.options.file_bytes_max) {
                    Ok(text) => self.file(path, &text),
                    Err(reason) => self.skip(path, reason),
                }
            }
        }
    }

    fn skip(&mut self, path: &[u8], reason: &'static str) -> Result<(), Stop> {
        *self.counts.skipped.entry(reason).or_default() += 1;
        if SKIPPED_LINES_MAX <= self.skipped_lines {
            return Ok(());
        }
        self.skipped_lines += 1;
        line_out(&mut self.out, &json!({"type": "skipped", "path": names::escape(path), "reason": reason}))
    }

    fn file(&mut self, path: &[u8], text: &str) -> Result<(), Stop> {
        let path = names::escape(path);
        let found = symbi_detect::detect(text);
        let passages = passages::split(text, &found);
        let mut labels: Vec<&str> = found.iter().map(|finding| finding.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        self.counts.files += 1;
        self.counts.bytes += text.len() as u64;
        self.counts.findings += found.len() as u64;
        for label in &labels {
            *self.counts.labels.entry((*label).to_owned()).or_default() += 1;
        }
        let digest = hex(&Sha256::digest(text));
        let file = json!({
            "type": "file", "path": path, "bytes": text.len(), "sha256": digest, "labels": labels,
            "findings": found.len(), "passages": passages.len(),
        });
        line_out(&mut self.out, &file)?;
        for (index, passage) in passages.iter().enumerate() {
            self.passage(&path, index, text, passage)?;
        }
        Ok(())
    }

    fn passage(
        &mut self,
        path: &str,
        index: usize,
        text: &str,
        passage: &passages::Passage<'_>,
    ) -> Result<(), Stop> {
        let part = text.get(passage.start..passage.end).unwrap_or_default();
        let withheld = passage.labels.contains(&symbi_types::Label::SECRET); // S2
        self.counts.passages += 1;
        self.counts.withheld += u64::from(withheld);
        let findings: Vec<Value> = passage
            .findings
            .iter()
            .map(|found| json!({"kind": found.kind, "label": found.label, "start": found.start, "end": found.end}))
            .collect();
        let text = if withheld { Value::Null } else { Value::from(part) };
        let line = json!({
            "type": "passage", "path": path, "index": index, "start": passage.start, "end": passage.end,
            "labels": passage.labels, "findings": findings, "sha256": hex(&Sha256::digest(part)), "text": text,
        });
        line_out(&mut self.out, &line)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
