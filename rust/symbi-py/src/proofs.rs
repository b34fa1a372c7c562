//! Checkpoints and proofs of `symbi-audit` for Python: texts in, texts and plain tuples out.
//!
//! Not here: where checkpoints are kept, the classes a user sees (`symbi/audit/proof.py`).

use std::path::Path;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use symbi_audit::{
    Checkpoint, KeyId, LogError, LogOptions, NoteError, Owner, Proof, ProofError, Prover, Reader,
    Verification, VerifierKey, VerifyOptions, Witness, merkle,
};
use symbi_types::{Storage, SystemStorage};

use crate::audit::{Fields, fields, hex};
use crate::errors::{Raise, enter};

impl From<NoteError> for Raise {
    fn from(error: NoteError) -> Self {
        Self::new("CryptoError", error.to_string())
    }
}

impl From<ProofError> for Raise {
    fn from(error: ProofError) -> Self {
        Self::new("CryptoError", format!("the proof does not hold: {error}"))
    }
}

/// A text that a caller gave: what is no checkpoint is his mistake.
pub(crate) fn checkpoint(text: &str) -> Result<Checkpoint, Raise> {
    text.parse().map_err(|error: NoteError| Raise::new("InputError", format!("not a checkpoint: {error}")))
}

pub(crate) fn verifier_key(text: &str) -> Result<VerifierKey, Raise> {
    text.parse().map_err(|error: NoteError| Raise::new("InputError", error.to_string()))
}

pub(crate) fn key_id(text: Option<&str>) -> Result<Option<KeyId>, Raise> {
    let key = text.map(str::parse::<KeyId>).transpose();
    key.map_err(|error| Raise::new("InputError", error.to_string()))
}

/// `(log_id, size, root, signers)`
type CheckpointTuple = (String, u64, String, Vec<String>);

fn told(checkpoint: &Checkpoint) -> CheckpointTuple {
    let signers = checkpoint.signers().map(str::to_owned).collect();
    (checkpoint.log_id().to_string(), checkpoint.size(), hex(checkpoint.root()), signers)
}

/// Makes proofs against one checkpoint of a trail.
#[pyclass(frozen, module = "symbi._core")]
struct AuditProver {
    prover: Prover,
}

#[pymethods]
impl AuditProver {
    #[new]
    #[pyo3(signature = (directory, checkpoint=None))]
    fn new(py: Python<'_>, directory: &str, checkpoint: Option<&str>) -> PyResult<Self> {
        enter(py, || -> Result<_, Raise> {
            let given = checkpoint.map(self::checkpoint).transpose()?;
            Ok(Self { prover: Reader::open(Path::new(directory))?.prover(given)? })
        })
    }

    /// The checkpoint's text.
    fn checkpoint(&self) -> String {
        self.prover.checkpoint().to_string()
    }

    /// The text of the proof of record `seq`; its line, without newline, where the caller has it.
    #[pyo3(signature = (seq, line=None))]
    fn prove(&self, py: Python<'_>, seq: u64, line: Option<&str>) -> PyResult<String> {
        enter(py, || -> Result<_, LogError> {
            let line = line.map(|line| format!("{line}\n").into_bytes());
            Ok(self.prover.prove(seq, line.as_deref())?.to_string())
        })
    }

    /// The hashes, 32 bytes each, that show that the log only grew since `old`.
    fn consistency(&self, py: Python<'_>, old: &str) -> PyResult<Vec<Vec<u8>>> {
        enter(py, || -> Result<_, Raise> {
            let hashes = self.prover.consistency(&checkpoint(old)?)?;
            Ok(hashes.into_iter().map(|hash| hash.to_vec()).collect())
        })
    }
}

/// A witness with its state; see `symbi/http/witness.py`.
#[pyclass(frozen, module = "symbi._core")]
struct AuditWitness {
    witness: Witness,
}

#[pymethods]
impl AuditWitness {
    #[new]
    fn new(py: Python<'_>, directory: &str, name: &str, seed: [u8; 32], logs: Vec<String>) -> PyResult<Self> {
        enter(py, || -> Result<_, Raise> {
            let logs = logs.iter().map(|text| verifier_key(text)).collect::<Result<_, _>>()?;
            let key = LogOptions::of_seed("aws-lc", &seed, Owner::Application)?.signing_key;
            let storage: Arc<dyn Storage> = Arc::new(SystemStorage);
            Ok(Self { witness: Witness::open(&storage, Path::new(directory), name, key, logs)? })
        })
    }

    /// Its own key: `name+hash+base64`.
    fn verifier_key(&self) -> String {
        self.witness.verifier_key().to_string()
    }

    /// Answers one request: a status as HTTP has it, and the body.
    fn add_checkpoint(&self, py: Python<'_>, request: &str, time_s: u64) -> (u16, String) {
        let answer = py.detach(|| self.witness.add_checkpoint(request, time_s));
        (answer.status, answer.body)
    }
}

/// The request that asks a witness, which signed the first `old` records last, to sign the checkpoint beside a trail.
#[pyfunction]
fn audit_witness_request(py: Python<'_>, directory: &str, old: u64) -> PyResult<String> {
    enter(py, || -> Result<_, LogError> {
        let prover = Reader::open(Path::new(directory))?.prover(None)?;
        let hashes = prover.consistency_from(old)?;
        Ok(symbi_audit::request(old, &hashes, prover.checkpoint()))
    })
}

/// Keeps a witness' answer under the checkpoint beside a trail, after checking it. Answers the time that it signed,
/// seconds since the Unix epoch.
#[pyfunction]
fn audit_keep_cosignature(py: Python<'_>, directory: &str, lines: &str, witness: &str) -> PyResult<u64> {
    enter(py, || -> Result<_, Raise> {
        let reader = Reader::open(Path::new(directory))?;
        let missing = || LogError::Event { reason: "no checkpoint lies beside the trail".into() };
        let mut checkpoint = reader.checkpoint()?.ok_or_else(missing)?;
        let time_s = checkpoint.add_cosignatures(lines, &verifier_key(witness)?)?;
        reader.keep_cosignatures(&checkpoint)?;
        Ok(time_s)
    })
}

/// Opens a trail with its key, has the key of `new_seed` sign from the next record on, and closes it when that is on
/// disk. Answers the number of the record that says so.
#[pyfunction]
fn audit_rotate(
    py: Python<'_>,
    directory: &str,
    old_seed: [u8; 32],
    new_seed: [u8; 32],
    runtime: bool,
) -> PyResult<u64> {
    enter(py, || -> Result<_, LogError> {
        let owner = if runtime { Owner::Runtime } else { Owner::Application };
        let new = LogOptions::of_seed("aws-lc", &new_seed, owner)?.signing_key;
        let options = LogOptions::of_seed("aws-lc", &old_seed, owner)?;
        let (log, _) = symbi_audit::Log::open(Path::new(directory), &options)?;
        let receipt = log.rotate(&new)?;
        log.close()?;
        Ok(receipt.seq)
    })
}

/// The fingerprint of a seed's key.
#[pyfunction]
fn audit_fingerprint(py: Python<'_>, seed: [u8; 32]) -> PyResult<String> {
    enter(py, || -> Result<_, LogError> {
        Ok(LogOptions::of_seed("aws-lc", &seed, Owner::Application)?.signing_key.key_id().to_string())
    })
}

/// The keys of a trail as a witness takes them, in the order of their use.
#[pyfunction]
fn audit_verifier_keys(py: Python<'_>, directory: &str) -> PyResult<Vec<String>> {
    enter(py, || -> Result<_, LogError> {
        let keys = Reader::open(Path::new(directory))?.verifier_keys()?;
        Ok(keys.iter().map(ToString::to_string).collect())
    })
}

/// Reads a checkpoint's text. Its signatures are not checked.
#[pyfunction]
fn audit_read_checkpoint(py: Python<'_>, text: &str) -> PyResult<CheckpointTuple> {
    enter(py, || -> Result<_, Raise> { Ok(told(&checkpoint(text)?)) })
}

/// The text of the checkpoint beside a trail, or None.
#[pyfunction]
fn audit_checkpoint(py: Python<'_>, directory: &str) -> PyResult<Option<String>> {
    enter(py, || -> Result<_, LogError> {
        Ok(Reader::open(Path::new(directory))?.checkpoint()?.map(|checkpoint| checkpoint.to_string()))
    })
}

/// Signs the state of a trail that nobody has open, after verifying it whole.
#[pyfunction]
fn audit_sign_checkpoint(py: Python<'_>, directory: &str, seed: [u8; 32]) -> PyResult<String> {
    enter(py, || -> Result<_, LogError> {
        let options = LogOptions::of_seed("aws-lc", &seed, Owner::Application)?;
        Ok(symbi_audit::checkpoint_at_rest(Path::new(directory), &options)?.to_string())
    })
}

/// Checks a proof. Answers the record, the fingerprint of the key that signed the checkpoint, its text.
#[pyfunction]
#[pyo3(signature = (text, key=None))]
fn audit_check_proof(py: Python<'_>, text: &str, key: Option<&str>) -> PyResult<(Fields, String, String)> {
    enter(py, || -> Result<_, Raise> {
        let proof: Proof = text.parse()?;
        let proven = proof.check(key_id(key)?)?;
        Ok((fields(proven.record), proven.key.to_string(), proof.checkpoint.to_string()))
    })
}

/// Checks that the log of checkpoint `new` begins with that of `old`, by hashes of 32 bytes.
#[pyfunction]
fn audit_check_consistency(py: Python<'_>, old: &str, new: &str, hashes: Vec<[u8; 32]>) -> PyResult<()> {
    enter(py, || -> Result<_, Raise> {
        let (old, new) = (checkpoint(old)?, checkpoint(new)?);
        if old.log_id() != new.log_id() {
            return Err(Raise::new("CryptoError", "the checkpoints are of two logs"));
        }
        Ok(merkle::check_consistency(old.size(), new.size(), old.root(), new.root(), &hashes)?)
    })
}

/// What a verification found, see `audit_verify`.
pub(crate) type VerifiedTuple = (
    (u64, u64, u64, Option<u64>, Option<(u64, u64)>, u64),
    (String, &'static str, String, Vec<String>, u64, u64, Vec<(u64, u64)>),
);

/// Verifies a trail. Answers `(first, records, complete_to, checkpoint, witnessed_s, pruned)` and
/// `(head, level, log_id, keys, last_us, tail_bytes, distrusted)`.
#[pyfunction]
#[pyo3(signature = (directory, key=None, *, checkpoints=Vec::new(), witnesses=Vec::new(), since_checkpoint=false,
                    range=None))]
fn audit_verify(
    py: Python<'_>,
    directory: &str,
    key: Option<&str>,
    checkpoints: Vec<String>,
    witnesses: Vec<String>,
    since_checkpoint: bool,
    range: Option<(u64, u64)>,
) -> PyResult<VerifiedTuple> {
    enter(py, || -> Result<_, Raise> {
        let options = VerifyOptions {
            key: key_id(key)?,
            checkpoints: checkpoints.iter().map(|text| checkpoint(text)).collect::<Result<_, _>>()?,
            witnesses: witnesses.iter().map(|text| verifier_key(text)).collect::<Result<_, _>>()?,
            since_checkpoint,
            range: range.map(|(from, to)| from..to),
            ..VerifyOptions::default()
        };
        Reader::open(Path::new(directory))?;
        let found = symbi_audit::verify(Path::new(directory), &options)?;
        Ok(verified(found))
    })
}

pub(crate) fn verified(found: Verification) -> VerifiedTuple {
    let keys = found.keys.iter().map(ToString::to_string).collect();
    (
        (found.first, found.records, found.complete_to, found.checkpoint, found.witnessed_s, found.pruned),
        (
            found.head,
            found.level.as_str(),
            found.log_id.to_string(),
            keys,
            found.last_us,
            found.tail_bytes,
            found.distrusted.into_iter().map(|range| (range.start, range.end)).collect(),
        ),
    )
}

/// Copies a trail, its segments plain; answers how many bytes of records.
#[pyfunction]
fn audit_export(py: Python<'_>, directory: &str, target: &str) -> PyResult<u64> {
    enter(py, || symbi_audit::export(&SystemStorage, Path::new(directory), Path::new(target)))
}

/// Whole lines from record `from_seq` on, and the number of the record after them.
#[pyfunction]
fn audit_lines<'py>(
    py: Python<'py>,
    directory: &str,
    from_seq: u64,
    bytes_max: usize,
) -> PyResult<(Bound<'py, PyBytes>, u64)> {
    let (block, next) =
        enter(py, || symbi_audit::lines(&SystemStorage, Path::new(directory), from_seq, bytes_max))?;
    Ok((PyBytes::new(py, &block), next))
}

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AuditProver>()?;
    module.add_class::<AuditWitness>()?;
    module.add_function(wrap_pyfunction!(audit_witness_request, module)?)?;
    module.add_function(wrap_pyfunction!(audit_keep_cosignature, module)?)?;
    module.add_function(wrap_pyfunction!(audit_verifier_keys, module)?)?;
    module.add_function(wrap_pyfunction!(audit_rotate, module)?)?;
    module.add_function(wrap_pyfunction!(audit_fingerprint, module)?)?;
    module.add_function(wrap_pyfunction!(audit_read_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(audit_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(audit_sign_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(audit_check_proof, module)?)?;
    module.add_function(wrap_pyfunction!(audit_check_consistency, module)?)?;
    module.add_function(wrap_pyfunction!(audit_export, module)?)?;
    module.add_function(wrap_pyfunction!(audit_lines, module)?)?;
    module.add_function(wrap_pyfunction!(audit_verify, module)?)
}
