//! What the pipeline takes, whose threads are the test itself: so it stands still wherever a test wants to look.
//!
//! Not here: threads, crashes and what lies on the disk (`tests/round_trip.rs`, `tests/crash.rs`).

use symbi_crypto::Provider;
use symbi_testkit::{Disk, FakeClock, SeededEntropy};
use symbi_types::OpenMode;

use super::*;

const SIGNERS: usize = 2;

/// A pipeline whose threads are this test.
fn pipeline(owner: Owner) -> Pipeline {
    let disk = Arc::new(Disk::new());
    let directory = PathBuf::from("/trail");
    disk.create_directory(&directory).unwrap();
    let open = |name: &str| disk.open(&directory.join(name), OpenMode::Create).unwrap();
    let point = Point { records: 0, chain: [0; 32], segment: 0, length: 0 };
    Pipeline::new(Start {
        log_id: LogId::random(&SeededEntropy::new(1)),
        key: key(),
        point,
        file: open("segment").into(),
        head: HeadWriter { file: open("head"), next_slot: 0, synced_ns: 0, records: 0 },
        signers: SIGNERS,
        signing: Signing::Event,
        owner,
        segment_bytes_max: u64::MAX,
        segment_age_max_ns: u64::MAX,
        segment_age_ns: 0,
        sealer: None,
        clock: Arc::new(FakeClock::ticking(7)),
        storage: disk,
        directory,
    })
}

fn key() -> SigningKey {
    SigningKey::from_seed(Provider::AwsLc, &[1; 32])
}

fn push(pipeline: &Pipeline, first: usize, count: usize) {
    let line = [b'x'; 2 * SUFFIX_BYTES];
    for seq in first..first + count {
        let end = End { at: line.len(), link: [0; 32], is_signed: true };
        assert!(pipeline.push(&key(), seq as u64, &line, &[end]));
    }
}

fn sign_one_chunk(pipeline: &Pipeline) {
    let mut chunk = pipeline.next_chunk().unwrap();
    chunk.sign();
    pipeline.write_in_order(chunk);
}

#[test]
fn p5_a_group_is_taken_ahead_of_the_signers_by_a_portion_and_one_record_as_far_as_the_buffer_goes() {
    let pipeline = pipeline(Owner::Application);
    let portion = PORTION_PER_SIGNER * SIGNERS;
    assert_eq!(pipeline.wait_for_portion(1), Ok(portion));
    push(&pipeline, 0, portion - 1);
    assert_eq!(pipeline.wait_for_portion(1), Ok(1));
    push(&pipeline, portion - 1, 1);
    assert_eq!(pipeline.wait_for_room(1), Ok(RECORDS_PER_SIGNER * SIGNERS - portion));
    std::thread::scope(|scope| {
        let group = scope.spawn(|| pipeline.wait_for_portion(1));
        while !pipeline.is_waited_for() {
            std::thread::yield_now();
        }
        // Nothing is on disk, and nothing needs to be: what is in the file is out of the signers' way.
        (0..portion / 2 / Signing::Event.records_max()).for_each(|_| sign_one_chunk(&pipeline));
        assert_eq!(group.join().unwrap(), Ok(portion / 2));
    });
    assert_eq!(pipeline.durable(), 0);
}

#[test]
fn p3_what_is_written_and_not_on_disk_still_counts_against_the_buffer() {
    let pipeline = pipeline(Owner::Application);
    let most = RECORDS_PER_SIGNER * SIGNERS;
    push(&pipeline, 0, most - 1);
    (0..most.div_ceil(Signing::Event.records_max())).for_each(|_| sign_one_chunk(&pipeline));
    assert_eq!(pipeline.wait_for_portion(1), Ok(1));
}

#[test]
fn p5_the_kernel_whose_agents_have_shares_takes_a_group_as_far_as_the_buffer_goes() {
    let pipeline = pipeline(Owner::Runtime);
    push(&pipeline, 0, PORTION_PER_SIGNER * SIGNERS);
    let room = RECORDS_PER_SIGNER * SIGNERS - PORTION_PER_SIGNER * SIGNERS;
    assert_eq!(pipeline.wait_for_portion(1), Ok(room));
}
