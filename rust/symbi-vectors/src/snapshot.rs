//! An index as one file, to be mapped.
//!
//! Why sections at page borders: graph, codes and vectors are used where they lie in the file; only what is small is
//! copied. docs/formats/vector-index.md draws it to scale.
//! Not here: changes after it (`journal`), which file counts (`files`).
//!
//! Invariants
//! - SN1 a file that is not whole, not ours or changed in a byte that matters is an error, at open or at first use.
//! - SN2 a snapshot holds no hidden slots, and nothing of the vectors that free ones held.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::codes::{Codec, Table};
use crate::error::{Result, VectorError};
use crate::fields::{Fields, at, damaged, words};
use crate::graph::{Entry, Graph, LEVEL_MAX, NONE};
use crate::kernels::{FACTORS_BYTES, best};
use crate::memory::{Mapping, Rows, as_bytes};
use crate::options::{Metric, Options, Quantization, SLOTS_MAX};
use crate::store::{Slot, Store};
use crate::sums::{self, BLOCK_BYTES, Pending, Sums};

const MAGIC: [u8; 8] = *b"SYMBIVEC";
const VERSION: u32 = 2;
const PAGE: usize = 4096;
/// Where the header's own checksum stands.
const SUM_AT: usize = PAGE - 4;
const SECTIONS: usize = 8;
/// No section begins or ends past it: sums of offsets stay far from where they would go over.
const BYTES_MAX: u64 = 1 << 48;
/// Nodes that were ever made, in any index.
const DRAWN_MAX: u64 = 1 << 60;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Dot];
const CODES: [Quantization; 4] =
    [Quantization::None, Quantization::Int8, Quantization::Int4, Quantization::Binary];

/// What the first page says.
#[derive(Clone, Debug)]
struct Header {
    generation: u64,
    options: Options,
    slots: usize,
    live: usize,
    drawn: u64,
    entry: Option<Entry>,
    centred: usize,
    /// Ids, states and levels, upper links, the codes' centre, links, codes, their factors, vectors: offset and bytes. Then the checksums of all.
    sections: [(u64, usize); SECTIONS + 1],
    sums_sum: u32,
}

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).unwrap_or(0) as u8
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let options = &self.options;
        let mut page = Vec::with_capacity(PAGE);
        page.extend(MAGIC);
        page.extend(VERSION.to_le_bytes());
        page.extend((PAGE as u32).to_le_bytes());
        page.extend(self.generation.to_le_bytes());
        page.extend((options.dimension as u32).to_le_bytes());
        page.extend([place(&METRICS, &options.metric), place(&CODES, &options.quantization), 0, 0]);
        page.extend((options.m as u32).to_le_bytes());
        page.extend((options.ef_construct as u32).to_le_bytes());
        for word in [options.seed, self.slots as u64, self.live as u64, self.drawn] {
            page.extend(word.to_le_bytes());
        }
        let entry = self.entry.unwrap_or(Entry { slot: NONE, level: 0 });
        page.extend(entry.slot.to_le_bytes());
        page.extend(entry.level.to_le_bytes());
        page.extend((self.centred as u64).to_le_bytes());
        for (offset, bytes) in self.sections {
            page.extend(offset.to_le_bytes());
            page.extend((bytes as u64).to_le_bytes());
        }
        page.extend(self.sums_sum.to_le_bytes());
        page.resize(SUM_AT, 0);
        page.extend(crc32fast::hash(&page).to_le_bytes());
        page
    }

    fn decode(path: &Path, page: &[u8]) -> Result<Self> {
        let foreign = |what: &str| VectorError::Foreign { path: path.to_owned(), what: what.to_owned() };
        let mut fields = Fields::new(page);
        if fields.take() != MAGIC {
            return Err(foreign("it does not begin as one"));
        }
        let version = fields.u32();
        if version != VERSION {
            return Err(foreign(&format!("its format is {version}, and this version reads {VERSION}")));
        }
        let Some((body, sum)) = page.split_last_chunk::<4>().filter(|_| page.len() == PAGE) else {
            return Err(damaged(path, "it ends within its header"));
        };
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) || fields.u32() != PAGE as u32 {
            return Err(damaged(path, "checksum of the header"));
        }
        let generation = fields.u64();
        let dimension = fields.u32() as usize;
        let [metric, code, _, _] = fields.take();
        let (Some(&metric), Some(&quantization)) = (METRICS.get(metric as usize), CODES.get(code as usize))
        else {
            return Err(damaged(path, "an unknown metric or code"));
        };
        let (m, ef_construct) = (fields.u32() as usize, fields.u32() as usize);
        let [seed, slots, live, drawn] = [(); 4].map(|()| fields.u64());
        let entry = Entry { slot: fields.u32(), level: fields.u32() };
        let centred = fields.u64() as usize;
        let sections = [(); SECTIONS + 1].map(|()| (fields.u64(), fields.u64() as usize));
        let sums_sum = fields.u32();
        let options = Options { dimension, metric, m, ef_construct, quantization, seed };
        let options = options.checked().map_err(|error| damaged(path, error.to_string()))?;
        let entry = (entry.slot != NONE).then_some(entry);
        let (slots, live) = (slots as usize, live as usize);
        let header = Self { generation, options, slots, live, drawn, entry, centred, sections, sums_sum };
        header.check(path)?;
        Ok(header)
    }

    /// What a header cannot say, whatever its checksum.
    fn check(&self, path: &Path) -> Result<()> {
        if self.is_sound() { Ok(()) } else { Err(damaged(path, "a header that contradicts itself")) }
    }

    /// Numbers first, then what is computed from them: nothing goes over.
    fn is_sound(&self) -> bool {
        let numbers = self.slots < SLOTS_MAX
            && self.live <= self.slots
            && self.centred <= SLOTS_MAX
            && self.drawn < DRAWN_MAX
            && self.sections.iter().all(|&(offset, bytes)| offset < BYTES_MAX && bytes < BYTES_MAX as usize);
        if !numbers {
            return false;
        }
        let mut next = PAGE as u64;
        for (&(offset, bytes), size) in self.sections.iter().zip(self.sizes()) {
            if offset != next || size.is_some_and(|size| size != bytes) {
                return false;
            }
            next = (offset + bytes as u64).next_multiple_of(PAGE as u64);
        }
        self.entry.is_none_or(|entry| (entry.slot as usize) < self.slots && entry.level <= LEVEL_MAX)
            && (self.live > 0) == self.entry.is_some()
    }

    /// Bytes of each section; of the upper links only their own length tells.
    fn sizes(&self) -> [Option<usize>; SECTIONS + 1] {
        let codec = Codec::new(&self.options, best());
        let slots = self.slots;
        let [_, _, (_, upper), (_, centre), ..] = self.sections;
        let centred = centre > 0 && self.options.quantization == Quantization::Binary;
        let centre = if centred { 4 * self.options.dimension } else { 0 };
        let mut sizes = [
            Some(8 * slots),
            Some(2 * slots),
            Some(upper),
            Some(centre),
            Some(8 * self.options.m * slots),
            Some(codec.code_bytes() * slots),
            Some((codec.row_bytes() - codec.code_bytes()) * slots),
            Some(4 * self.options.dimension * slots),
            None,
        ];
        let blocks: usize = sizes.iter().flatten().map(|bytes| bytes.div_ceil(BLOCK_BYTES)).sum();
        if let Some(last) = sizes.last_mut() {
            *last = Some(4 * blocks);
        }
        sizes
    }
}

/// Bytes of one section, piece by piece.
type Pieces<'a> = Vec<&'a [u8]>;

/// The rows of a table, in which those of free slots, `free` ascending, are zero (SN2); `zeros` is as long as one.
fn without<'a>(table: [&'a [u8]; 2], free: &[u32], zeros: &'a [u8]) -> Pieces<'a> {
    let [base, tail] = table;
    let mut pieces = Vec::with_capacity(3 * free.len() + 2);
    let between = |pieces: &mut Pieces<'a>, from: usize, to: usize| {
        pieces.extend(base.get(from.min(base.len())..to.min(base.len())));
        pieces.extend(tail.get(from.saturating_sub(base.len())..to.saturating_sub(base.len())));
    };
    let mut from = 0;
    for &slot in free {
        let to = slot as usize * zeros.len();
        between(&mut pieces, from, to);
        pieces.push(zeros);
        from = to + zeros.len();
    }
    between(&mut pieces, from, base.len() + tail.len());
    pieces
}

/// Writes `store`, which has no hidden slots (SN2), and syncs.
pub(crate) fn write(store: &Store, generation: u64, path: &Path) -> Result<()> {
    assert!(store.hidden == 0, "SN2");
    let known = store.ids.iter().zip(&store.states);
    let ids: Vec<u8> =
        known.flat_map(|(&id, &state)| if state == Slot::Free { 0 } else { id }.to_le_bytes()).collect();
    let slots = 0..store.slots() as u32;
    let states: Vec<u8> = slots
        .clone()
        .zip(&store.states)
        .flat_map(|(slot, state)| [*state as u8, store.graph.level(slot) as u8])
        .collect();
    let upper: Vec<u8> = slots
        .flat_map(|slot| store.graph.upper_words(slot))
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    let rows = store.slots(); // room may have been made for more, by an `add` that then failed
    let [codes, factors] = store.codes.as_ref().map_or([[&[][..], &[]]; 2], |codes| codes.pieces(rows));
    let mut free = store.free.clone();
    free.sort_unstable();
    let (code, vector) = (store.codec.code_bytes(), 4 * store.options.dimension);
    let zeros = vec![0; vector.max(code).max(FACTORS_BYTES)];
    let coded = if store.codes.is_some() { &free[..] } else { &[] };
    let sections: [Pieces<'_>; SECTIONS] = [
        vec![&ids],
        vec![&states],
        vec![&upper],
        vec![as_bytes(store.codec.centre())],
        store.graph.base.pieces(rows).to_vec(),
        without(codes, coded, zeros.get(..code).unwrap_or_default()),
        without(factors, coded, zeros.get(..FACTORS_BYTES).unwrap_or_default()),
        without(store.vectors.pieces(rows), &free, zeros.get(..vector).unwrap_or_default()),
    ];
    let sums: Vec<u8> =
        sections.iter().flat_map(|pieces| sums::of(pieces)).flat_map(u32::to_le_bytes).collect();
    let mut header = Header {
        generation,
        options: store.options,
        slots: store.slots(),
        live: store.len(),
        drawn: store.graph.drawn,
        entry: store.graph.entry(),
        centred: store.centred,
        sections: [(0, 0); SECTIONS + 1],
        sums_sum: crc32fast::hash(&sums),
    };
    let all: Vec<Pieces<'_>> = sections.into_iter().chain([vec![&sums[..]]]).collect();
    let mut next = PAGE as u64;
    for (section, pieces) in header.sections.iter_mut().zip(&all) {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        *section = (next, bytes);
        next = (next + bytes as u64).next_multiple_of(PAGE as u64);
    }
    let write_all = || {
        let mut file = File::create(path)?;
        file.write_all(&header.encode())?;
        for pieces in &all {
            let mut length = 0;
            for piece in pieces {
                file.write_all(piece)?;
                length += piece.len();
            }
            file.write_all(&vec![0; length.next_multiple_of(PAGE) - length])?;
        }
        file.sync_all()
    };
    write_all().map_err(at("write", path))
}

/// The generation of a snapshot; `None` where there is none.
pub(crate) fn generation(path: &Path) -> Result<Option<u64>> {
    match File::open(path) {
        Ok(mut file) => read_header(&mut file, path).map(|header| Some(header.generation)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("open", path)(error)),
    }
}

fn read_header(file: &mut File, path: &Path) -> Result<Header> {
    let mut page = Vec::new();
    file.take(PAGE as u64).read_to_end(&mut page).map_err(at("read", path))?;
    Header::decode(path, &page)
}

/// Maps a snapshot: what is small is read and checked now, the rest when it is used (SN1).
pub(crate) fn open(path: &Path) -> Result<(Store, u64)> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let header = read_header(&mut file, path)?;
    let length = file.metadata().map_err(at("read", path))?.len();
    let [ids, states, upper, centre, links, codes, factors, vectors, sums] = header.sections;
    let end = (sums.0 + sums.1 as u64).next_multiple_of(PAGE as u64);
    if length != end {
        return Err(damaged(path, format!("it has {length} bytes, and its header says {end}")));
    }
    let map =
        |section: (u64, usize)| Mapping::of_file(file.as_fd(), section.0, section.1).map_err(at("map", path));
    let sums_map = map(sums)?;
    if crc32fast::hash(sums_map.as_slice()) != header.sums_sum {
        return Err(damaged(path, "checksum of the checksums"));
    }
    let mut all = words(sums_map.as_slice(), u32::from_le_bytes).into_iter();
    let [ids_sums, states_sums, upper_sums, centre_sums, links_sums, codes_sums, factors_sums, vectors_sums] =
        [ids, states, upper, centre, links, codes, factors, vectors]
            .map(|(_, bytes)| all.by_ref().take(bytes.div_ceil(BLOCK_BYTES)).collect::<Vec<u32>>());
    let small = |section, expected: &[u32], name: &str| -> Result<Mapping> {
        let mapping = map(section)?;
        if sums::of(&[mapping.as_slice()]) != expected {
            return Err(damaged(path, format!("checksum of the {name}")));
        }
        Ok(mapping)
    };
    let ids = words(small(ids, &ids_sums, "ids")?.as_slice(), u64::from_le_bytes);
    let states = small(states, &states_sums, "states")?;
    let upper = words(small(upper, &upper_sums, "upper links")?.as_slice(), u32::from_le_bytes);
    let centre = words(small(centre, &centre_sums, "centre")?.as_slice(), f32::from_le_bytes);
    if centre.iter().any(|value| !value.is_finite()) {
        return Err(damaged(path, "a centre that is nowhere"));
    }

    let mut store = Store::new(header.options);
    store.codec = Codec::centred(&header.options, best(), centre);
    store.centred = header.centred;
    let slots = header.slots;
    let levels: Vec<u8> = states.as_slice().chunks_exact(2).filter_map(|pair| pair.last().copied()).collect();
    let words_above: usize = levels.iter().map(|&level| level as usize * header.options.m).sum();
    let outside = |&link: &u32| link != NONE && link as usize >= slots;
    if words_above != upper.len()
        || upper.iter().any(outside)
        || levels.iter().any(|&level| u32::from(level) > LEVEL_MAX)
    {
        return Err(damaged(path, "layers that contradict themselves"));
    }
    let links = Rows::over(map(links)?, slots, 8 * header.options.m);
    let mut graph = Graph::over(header.options.m, header.options.seed, links);
    graph.restore(&levels, &upper, header.entry, header.drawn);
    store.graph = graph;
    if store.codes.is_some() {
        let codes = Rows::over(map(codes)?, slots, store.codec.code_bytes());
        let factors = Rows::over(map(factors)?, slots, FACTORS_BYTES);
        store.codes = Some(Table::over(codes, factors));
    }
    store.vectors = Rows::over(map(vectors)?, slots, 4 * header.options.dimension);
    store.directory.reserve(header.live);
    for (slot, (&id, state)) in ids.iter().zip(states.as_slice().chunks_exact(2)).enumerate() {
        let state = match state.first() {
            Some(0) => Slot::Free,
            Some(1) => Slot::Live,
            _ => return Err(damaged(path, "an unknown state of a slot")),
        };
        store.states.push(state);
        if state == Slot::Free {
            store.free.push(slot as u32);
        } else if store.directory.insert(id, slot as u32).is_some() {
            return Err(damaged(path, "an id that stands twice"));
        }
    }
    store.ids = ids;
    if store.len() != header.live {
        return Err(damaged(path, "another number of vectors than its header says"));
    }
    store.sums = Some(Sums::new(path.to_owned(), vectors_sums, slots as u32, 4 * header.options.dimension));
    store.pending = Some(Pending::new(path.to_owned(), links_sums, codes_sums, factors_sums));
    Ok((store, header.generation))
}

/// The vectors of a snapshot that was just written, mapped, with their checks.
pub(crate) fn map_vectors(path: &Path) -> Result<(Rows, Sums)> {
    let (store, _) = open(path)?;
    let sums = store.sums.ok_or_else(|| damaged(path, "no checksums"))?;
    Ok((store.vectors, sums))
}
