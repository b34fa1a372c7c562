//! Where a record gets its number, its time, its id and its link: under one lock, which is the order of the log (A1).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use symbi_crypto::SigningKey;
use symbi_types::{BootId, Clock, Entropy, EventId, LogId};

use crate::chain::{self, Link, SHORT_SUFFIX_BYTES, SUFFIX_BYTES};
use crate::event::{self, Event, RECORD_BYTES_MAX};
use crate::options::Signing;
use crate::pipeline::{End, Health, Pipeline, lock};
use crate::time::{Jump, Stamp, Timeline};
use crate::{LogError, Receipt};

/// Randomness is asked for in blocks: one call to the operating system for 256 ids.
const ENTROPY_BLOCK: usize = 4096;
/// Room that is asked for before the size of a record is known; the bound of the buffer leaves that of the longest.
const ROOM_BYTES: usize = 4096;
/// Bytes that `append_many` numbers under one lock, about.
const LINES_BYTES_MAX: usize = 64 * 1024;

pub(super) struct IdSource {
    pub(super) block: Vec<u8>,
    pub(super) used: usize,
}

/// Sixteen bytes, as a source of one id.
struct Fixed([u8; 16]);

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.0.get(..buffer.len()).unwrap_or(&self.0));
    }
}

impl IdSource {
    fn next(&mut self, entropy: &dyn Entropy) -> EventId {
        if self.used + 16 > self.block.len() {
            self.block.resize(ENTROPY_BLOCK, 0);
            entropy.fill(&mut self.block);
            self.used = 0;
        }
        let bytes = self.block.get(self.used..).and_then(|rest| rest.first_chunk::<16>());
        self.used += 16;
        EventId::random(&Fixed(bytes.copied().unwrap_or_default()))
    }
}

/// Where the next record goes. Its lock is the order of the log.
pub(super) struct Numbering {
    pub(super) seq: u64,
    pub(super) chain: Link,
    pub(super) key: SigningKey,
    pub(super) signing: Signing,
    /// `,"boot":"…","key":"…"`.
    pub(super) constant: Vec<u8>,
    pub(super) ids: IdSource,
    pub(super) stamp: Stamp,
    /// Lines of a group on their way to the queue, reused.
    pub(super) lines: Vec<u8>,
    pub(super) ends: Vec<End>,
    pub(super) rest: Vec<u8>,
}

/// One reading of the clock, as a record takes it.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) log_us: u64,
    pub(super) mono_us: u64,
}

pub(super) struct Clockwork {
    pub(super) timeline: Timeline,
    /// A jump that no record tells of yet.
    pub(super) jump: Option<Jump>,
}

pub(super) struct Shared {
    pub(super) pipeline: Pipeline,
    pub(super) numbering: Mutex<Numbering>,
    /// Whoever waits for the order is next: without it one that hands in group after group takes the lock again before
    /// anybody who was woken for it.
    pub(super) turnstile: Mutex<()>,
    pub(super) clockwork: Mutex<Clockwork>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) log_id: LogId,
    pub(super) boot: BootId,
}

impl Shared {
    /// The order of the log, in turn.
    fn order(&self) -> MutexGuard<'_, Numbering> {
        let _turn = lock(&self.turnstile);
        lock(&self.numbering)
    }

    pub(super) fn append(&self, event: &Event<'_>) -> Result<Receipt, LogError> {
        let mut numbering = self.order();
        self.wait_for_room()?;
        let time = self.tell_time(&mut numbering);
        let signing = numbering.signing;
        let receipt = self.number(&mut numbering, event, time, signing)?;
        self.hand_over(&mut numbering)?;
        Ok(receipt)
    }

    /// None where the caller would wait for the disk: the buffer is full, or another, who has the order, waits for room.
    pub(super) fn try_append(&self, event: &Event<'_>) -> Result<Option<Receipt>, LogError> {
        let mut numbering = loop {
            match self.numbering.try_lock() {
                Ok(numbering) => break numbering,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if self.pipeline.is_waited_for() => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(), // its holder is at work, and soon done
            }
        };
        if !self.pipeline.has_room(ROOM_BYTES).map_err(|health| unavailable(&health))? {
            return Ok(None);
        }
        let time = self.tell_time(&mut numbering);
        let signing = numbering.signing;
        let receipt = self.number(&mut numbering, event, time, signing)?;
        self.hand_over(&mut numbering)?;
        Ok(Some(receipt))
    }

    /// Records something of the log itself: with a signature of its own, so that it can be kept when those around it go.
    pub(super) fn append_own(&self, event_type: &str, details: &str) -> Result<Receipt, LogError> {
        let mut numbering = self.order();
        self.wait_for_room()?;
        let time = self.tell_time(&mut numbering);
        let receipt = self.number(&mut numbering, &Event::new(event_type, details), time, Signing::Event)?;
        self.hand_over(&mut numbering)?;
        Ok(receipt)
    }

    pub(super) fn append_many(&self, events: &[Event<'_>]) -> Result<Range<u64>, LogError> {
        let mut numbering = self.order();
        let mut rest = events;
        let mut first = None;
        while !rest.is_empty() {
            let room = self.pipeline.wait_for_portion(ROOM_BYTES).map_err(|health| unavailable(&health))?;
            let time = self.tell_time(&mut numbering);
            let mut numbered = Ok(());
            let signing = numbering.signing;
            for _ in 0..room.min(signing.records_max()) {
                let Some((event, after)) = rest.split_first() else { break };
                rest = after;
                match self.number(&mut numbering, event, time, signing) {
                    Ok(receipt) => first = first.or(Some(receipt.seq)),
                    Err(error) => numbered = Err(error),
                }
                if numbered.is_err() || numbering.lines.len() > LINES_BYTES_MAX {
                    break;
                }
            }
            self.hand_over(&mut numbering)?;
            numbered?;
        }
        Ok(first.unwrap_or(numbering.seq)..numbering.seq)
    }

    /// The last record on a full disk, into the room that the reserve left.
    pub(super) fn last_words(&self) -> bool {
        let mut numbering = lock(&self.numbering);
        let event = Event::new("log.full", "{}");
        let time = self.tell_time(&mut numbering);
        self.number(&mut numbering, &event, time, Signing::Event).is_ok()
            && self.hand_over(&mut numbering).is_ok()
    }

    pub(super) fn wait_for_room(&self) -> Result<(), LogError> {
        self.pipeline.wait_for_room(ROOM_BYTES).map(drop).map_err(|health| unavailable(&health))
    }

    pub(super) fn read_clock(&self) -> std::sync::MutexGuard<'_, Clockwork> {
        let mut clockwork = lock(&self.clockwork);
        // Read under the lock: two readings must not overtake each other.
        let jump = clockwork.timeline.advance(self.clock.now());
        if jump.is_some() {
            clockwork.jump = jump;
        }
        clockwork
    }

    /// Reads the clock. One that was set is recorded before the next event (A7).
    pub(super) fn tell_time(&self, numbering: &mut Numbering) -> Reading {
        let (jump, time) = {
            let mut clockwork = self.read_clock();
            let time = Reading { log_us: clockwork.timeline.log_us(), mono_us: clockwork.timeline.mono_us() };
            (clockwork.jump.take(), time)
        };
        if let Some(jump) = jump {
            let cap = |us: u64| us.min(1 << 53);
            let details =
                format!(r#"{{"wall_us":{},"expected_us":{}}}"#, cap(jump.wall_us), cap(jump.expected_us));
            let told = self.number(numbering, &Event::new("clock.anomaly", &details), time, Signing::Event);
            debug_assert!(told.is_ok(), "a short record always fits");
        }
        time
    }

    /// Gives an event its number, time, id and link. The line stays in `numbering` until [`Shared::hand_over`].
    pub(super) fn number(
        &self,
        numbering: &mut Numbering,
        event: &Event<'_>,
        time: Reading,
        signing: Signing,
    ) -> Result<Receipt, LogError> {
        let Numbering { seq, chain: previous, constant, ids, stamp, lines, ends, rest, .. } = numbering;
        rest.clear();
        event::write_rest(event, rest);
        let start = lines.len();
        if rest.len() + constant.len() + SUFFIX_BYTES + 256 > RECORD_BYTES_MAX {
            let reason = format!("a record of {} bytes is longer than {RECORD_BYTES_MAX}", rest.len());
            return Err(LogError::Event { reason });
        }
        let event_id = ids.next(&*self.entropy);
        let (version, suffix_bytes) = match signing {
            Signing::Event => (b'1', SUFFIX_BYTES),
            Signing::Group => (b'2', SHORT_SUFFIX_BYTES),
        };
        lines.extend_from_slice(b"{\"v\":");
        lines.push(version);
        lines.extend_from_slice(b",\"seq\":");
        event::write_number(*seq, lines);
        lines.extend_from_slice(b",\"event_id\":");
        event::write_uuid(event_id.as_bytes(), lines);
        lines.extend_from_slice(b",\"timestamp\":\"");
        stamp.write(time.log_us, lines);
        lines.extend_from_slice(b"\",\"mono\":");
        event::write_number(time.mono_us, lines);
        lines.extend_from_slice(constant);
        lines.extend_from_slice(rest);
        let link = chain::link(self.log_id, *seq, previous, lines.get(start..).unwrap_or_default());
        lines.resize(lines.len() + suffix_bytes, 0);
        ends.push(End { at: lines.len(), link, is_signed: signing == Signing::Event });
        let receipt = Receipt { seq: *seq, event_id, timestamp_us: time.log_us, chain: link };
        *previous = link;
        *seq += 1;
        Ok(receipt)
    }

    pub(super) fn hand_over(&self, numbering: &mut Numbering) -> Result<(), LogError> {
        let Numbering { key, lines, ends, seq, .. } = numbering;
        let taken = self.pipeline.push(key, *seq - ends.len() as u64, lines, ends);
        lines.clear();
        ends.clear();
        if taken { Ok(()) } else { Err(unavailable(&self.pipeline.health())) }
    }
}

pub(super) fn unavailable(health: &Health) -> LogError {
    let reason = match health {
        Health::Draining(reason) | Health::Dead(reason) => reason.clone(),
        Health::Running | Health::Closed => "it is closed".into(),
    };
    LogError::Unavailable { reason }
}

pub(super) fn constant(boot: BootId, key: &SigningKey) -> Vec<u8> {
    format!(",\"boot\":\"{boot}\",\"key\":\"{}\"", key.key_id()).into_bytes()
}
