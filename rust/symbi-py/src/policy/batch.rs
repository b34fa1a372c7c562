//! Many requests at once: converted on the calling thread, decided meanwhile on others.
//!
//! Why: converting needs the GIL and deciding does not, so the first thread converts in groups while the others decide what
//! is there already; then it gives the GIL back and helps. What is said more than once in a batch (names, actions) is
//! converted once, and decisions that are the same are one object.
//!
//! Invariants
//! - BP4 a request that cannot be expressed refuses the whole batch.
//! - BP5 decisions stand in the order of the requests, whoever decided them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use symbi_policy::{Decided, Decision, Entity};

use super::answers::present;
use super::values::pairs;
use super::{Asked, Snapshot};

/// Requests of a batch below which another thread costs more than it saves.
const REQUESTS_PER_THREAD_MIN: usize = 256;
/// Threads that a batch may ask for.
const THREADS_MAX: usize = 64;
/// Requests that are handed over at once.
const GROUP: usize = 512;

/// Requests, and where they stand among the groups.
type Group = (usize, Vec<Asked>);

pub(super) fn evaluate_many<'py>(
    py: Python<'py>,
    snapshot: &Snapshot,
    requests: &Bound<'py, PyList>,
    threads: usize,
) -> PyResult<Bound<'py, PyList>> {
    let most = requests.len().div_ceil(REQUESTS_PER_THREAD_MIN).max(1);
    let threads = threads.clamp(1, THREADS_MAX).min(most);
    let (give, take) = channel::<Group>();
    let take = Mutex::new(take);
    let sizes = std::thread::scope(|scope| {
        let running: Vec<_> = (1..threads).map(|_| scope.spawn(|| decide_groups(snapshot, &take))).collect();
        let mut reading = Reading::new(snapshot);
        let mut sizes = Vec::with_capacity(requests.len().div_ceil(GROUP));
        for first in (0..requests.len()).step_by(GROUP) {
            let mut group = Vec::with_capacity(GROUP);
            for at in first..requests.len().min(first + GROUP) {
                group.push(reading.ask(&requests.get_item(at)?)?); // BP4
            }
            sizes.push(group.len());
            let _ = give.send((sizes.len() - 1, group)); // nobody takes: then it is missing, and denied
        }
        drop(give);
        Ok::<_, PyErr>((
            sizes,
            py.detach(|| {
                let mut decided = vec![decide_groups(snapshot, &take)];
                decided.extend(running.into_iter().map(|one| one.join().unwrap_or_default()));
                decided
            }),
        ))
    });
    let (sizes, decided) = sizes?;
    show(py, &sizes, decided)
}

/// What one thread decided: which groups, one after the other.
type Share = (Vec<usize>, Decided);

fn decide_groups(snapshot: &Snapshot, take: &Mutex<Receiver<Group>>) -> Share {
    let (mut groups, mut decided) = (Vec::new(), Decided::default());
    loop {
        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((at, mut group)) = next else { return (groups, decided) };
        group.iter_mut().for_each(|asked| decided.push(snapshot.decide(asked)));
        groups.push(at);
    }
}

/// BP5.
fn show<'py>(py: Python<'py>, sizes: &[usize], shares: Vec<Share>) -> PyResult<Bound<'py, PyList>> {
    let count = sizes.iter().sum();
    let mut shown: Vec<Option<Py<PyAny>>> = Vec::new();
    shown.resize_with(count, || None);
    let firsts: Vec<usize> =
        sizes.iter().scan(0, |next, size| Some(std::mem::replace(next, *next + size))).collect();
    for (groups, decided) in shares {
        let (distinct, places) = decided.into_parts();
        let objects =
            distinct.into_iter().map(|decision| present(py, decision)).collect::<PyResult<Vec<_>>>()?;
        let mut places = places.into_iter();
        for group in groups {
            let (Some(first), Some(size)) = (firsts.get(group), sizes.get(group)) else { continue };
            for (slot, place) in shown.iter_mut().skip(*first).take(*size).zip(&mut places) {
                let object = usize::try_from(place).ok().and_then(|place| objects.get(place));
                *slot = object.map(|object| object.clone_ref(py));
            }
        }
    }
    // The engine catches panics itself; what a thread that died all the same has not answered is denied.
    let failed = present(py, Decision::engine_failed())?;
    PyList::new(py, shown.into_iter().map(|slot| slot.unwrap_or_else(|| failed.clone_ref(py))))
}

/// Places of objects as keys: aligned, and close to each other.
#[derive(Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }
    fn write_usize(&mut self, place: usize) {
        self.0 = (self.0 ^ place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

type ByPlace<T> = HashMap<usize, T, BuildHasherDefault<PlaceHasher>>;

/// What was converted already, by the object it was: a batch holds its objects, so that one place is one object.
struct Reading<'a, 'py> {
    snapshot: &'a Snapshot,
    entities: ByPlace<(Entity, Bound<'py, PyAny>)>,
    actions: ByPlace<(Arc<str>, Bound<'py, PyAny>)>,
}

impl<'a, 'py> Reading<'a, 'py> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, entities: ByPlace::default(), actions: ByPlace::default() }
    }

    fn ask(&mut self, request: &Bound<'py, PyAny>) -> PyResult<Asked> {
        let (principal, action, resource, context) = request.extract::<(
            Bound<'py, PyAny>,
            Bound<'py, PyAny>,
            Bound<'py, PyAny>,
            Option<Bound<'py, PyDict>>,
        )>()?;
        Ok(Asked {
            principal: self.entity(principal)?,
            action: self.action(action)?,
            resource: self.entity(resource)?,
            context: context.map_or(Ok(Vec::new()), |context| pairs(&context))?,
        })
    }

    fn entity(&mut self, given: Bound<'py, PyAny>) -> PyResult<Entity> {
        let place = given.as_ptr().addr();
        if let Some((known, _)) = self.entities.get(&place) {
            return Ok(known.clone());
        }
        let fresh = self.snapshot.entity(&given)?;
        // Texts never change, nor do pairs of texts.
        self.entities.insert(place, (fresh.clone(), given));
        Ok(fresh)
    }

    fn action(&mut self, given: Bound<'py, PyAny>) -> PyResult<Arc<str>> {
        let place = given.as_ptr().addr();
        if let Some((known, _)) = self.actions.get(&place) {
            return Ok(Arc::clone(known));
        }
        let fresh: Arc<str> = given.cast::<PyString>()?.to_str()?.into();
        self.actions.insert(place, (Arc::clone(&fresh), given));
        Ok(fresh)
    }
}
