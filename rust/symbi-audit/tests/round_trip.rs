//! What goes in comes out, in order, signed, chained, and verifies; options have their effect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Bench, directory, fill, key, path};
use symbi_audit::{Event, Level, Log, LogError, LogStatus, Owner, Query, VerifyOptions, verify};
use symbi_types::{AgentId, LabelSet, OperationId, RunId, Storage, SystemEntropy};

const WAIT: Duration = Duration::from_secs(20);

#[test]
fn a1_what_was_appended_is_read_back_and_verifies() {
    let bench = Bench::new();
    let (log, report) = Log::open(directory(), &bench.options).unwrap();
    assert!(report.created);
    let labels: LabelSet = ["phi".parse().unwrap(), "secret".parse().unwrap()].into_iter().collect();
    let subjects = ["p-1".to_owned(), "p\"2".to_owned()];
    let (agent, run, op) =
        (AgentId::random(&SystemEntropy), RunId::random(&SystemEntropy), OperationId::random(&SystemEntropy));
    let event = Event {
        agent_id: Some(agent),
        run: Some(run),
        op: Some(op),
        decision: Some("deny"),
        policy: Some("digest"),
        labels: &labels,
        subjects: &subjects,
        personal: Some(r#"{"p-1":"sealed"}"#),
        ..Event::new("tool.called", r#"{"float":1.5,"nested":{"a":[1,"é"]}}"#)
    };
    let receipt = log.append(&event).unwrap();
    assert_eq!(receipt.seq, 2, "after log.created and log.opened");
    log.wait_durable(receipt.seq, WAIT).unwrap();
    assert_eq!(log.durable(), 3);
    log.close().unwrap();

    let records = bench.records();
    let types: Vec<&str> = records.iter().map(|record| record.event_type.as_str()).collect();
    assert_eq!(types, ["log.created", "log.opened", "tool.called"]);
    let record = &records[2];
    assert_eq!((record.agent(), record.run_id(), record.operation()), (Some(agent), Some(run), Some(op)));
    assert_eq!((record.decision.as_deref(), record.policy.as_deref()), (Some("deny"), Some("digest")));
    assert_eq!(record.label_set(), labels);
    assert_eq!(record.subjects, subjects);
    assert_eq!(record.details, event.details);
    assert_eq!(record.personal.as_deref(), event.personal);
    assert_eq!((record.event_id, record.timestamp_us), (receipt.event_id, receipt.timestamp_us));
    let verified = bench.verify().unwrap();
    assert_eq!((verified.records, verified.level), (3, Level::Consistent));
    assert_eq!(verified.keys[0].to_string(), report.fingerprint);
}

#[test]
fn every_line_ends_in_a_suffix_of_174_bytes() {
    let bench = Bench::new();
    fill(&bench.open(), 3);
    for line in bench.lines() {
        let suffix = &line[line.len() - 174..];
        assert!(suffix.starts_with(b",\"chain\":\"") && suffix.ends_with(b"==\"}\n"));
    }
}

#[test]
fn the_word_authentic_needs_the_fingerprint_that_was_kept() {
    let bench = Bench::new();
    fill(&bench.open(), 3);
    let storage: Arc<dyn Storage> = Arc::new(bench.disk.clone());
    let with = |seed: u8| VerifyOptions {
        key: Some(key(seed).key_id()),
        storage: Some(storage.clone()),
        ..VerifyOptions::default()
    };
    assert_eq!(verify(directory(), &with(1)).unwrap().level, Level::Authentic);
    assert!(verify(directory(), &with(2)).unwrap_err().reason.contains("the trail's key is"));
}

#[test]
fn a_reopened_log_goes_on_with_the_same_chain_and_a_fresh_nonce() {
    let bench = Bench::new();
    fill(&bench.open(), 2);
    let (log, report) = Log::open(directory(), &bench.options).unwrap();
    assert_eq!((report.created, report.records, report.cut_bytes), (false, 4, 0));
    fill(&log, 2);
    let records = bench.records();
    assert_eq!(records[4].event_type, "log.opened");
    assert_ne!(records[1].details, records[4].details);
    assert_ne!(records[1].boot, records[4].boot);
    assert_eq!(bench.verify().unwrap().records, 7);
}

#[test]
fn many_events_keep_their_order_and_share_syncs() {
    let bench = Bench::new();
    let log = bench.open();
    let details: Vec<String> = (0..5_000).map(|at| format!(r#"{{"number":{at}}}"#)).collect();
    let events: Vec<Event<'_>> = details.iter().map(|details| Event::new("test.event", details)).collect();
    let range = log.append_many(&events).unwrap();
    assert_eq!(range, 2..5_002);
    log.wait_durable(range.end - 1, WAIT).unwrap();
    log.close().unwrap();
    let records = bench.records();
    assert!(records[2..].iter().zip(&details).all(|(record, details)| record.details == *details));
    assert_eq!(bench.verify().unwrap().records, 5_002);
}

#[test]
fn a1_p1_threads_that_append_at_once_each_keep_their_own_order() {
    let bench = Bench::new();
    let log = bench.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for at in 0..500 {
                    let details = format!(r#"{{"thread":{thread},"at":{at}}}"#);
                    log.append(&Event::new("test.event", &details)).unwrap();
                }
            });
        }
    });
    log.close().unwrap();
    let records = bench.records();
    for thread in 0..4 {
        let beginning = format!(r#"{{"thread":{thread},"#);
        let own: Vec<_> = records.iter().filter(|record| record.details.starts_with(&beginning)).collect();
        let wanted: Vec<String> = (0..500).map(|at| format!(r#"{beginning}"at":{at}}}"#)).collect();
        assert!(own.iter().map(|record| &record.details).eq(&wanted));
    }
    assert_eq!(bench.verify().unwrap().records, 2_002);
}

#[test]
fn p2_progress_is_announced_after_every_sync_and_never_too_early() {
    let bench = Bench::new();
    let log = bench.open();
    let calls = Arc::new(AtomicU64::new(0));
    let (seen, progress) = (calls.clone(), log.progress());
    log.on_progress(Arc::new(move || {
        let durable = progress.look().map_or(0, |(_, durable)| durable);
        seen.fetch_max(durable, Ordering::SeqCst);
    }));
    let receipt = log.append(&Event::new("test.event", "{}")).unwrap();
    log.wait_durable(receipt.seq, WAIT).unwrap();
    log.close().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), receipt.seq + 1);
}

/// Whoever is called by the log must not be the last who holds it: it would wait for its own thread. A kernel's was.
#[test]
fn p2_who_follows_the_progress_of_a_log_does_not_keep_it_open() {
    let bench = Bench::new();
    let log = bench.open();
    let (progress, mine) = (log.progress(), log.progress());
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    log.on_progress(Arc::new(move || {
        seen.fetch_max(mine.look().map_or(0, |(_, durable)| durable), Ordering::SeqCst);
    }));
    let seq = log.append(&Event::new("test.event", "{}")).unwrap().seq;
    assert_eq!(progress.look().map(|(status, _)| status), Some(LogStatus::Healthy));
    drop(log);
    assert_eq!(calls.load(Ordering::SeqCst), seq + 1);
    assert!(progress.look().is_none_or(|(status, _)| status == LogStatus::Closed));
    assert!(bench.open().append(&Event::new("test.event", "{}")).unwrap().seq > seq);
}

#[test]
fn segments_roll_by_size_are_sealed_and_read_as_one() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 4_000;
    fill(&bench.open(), 60);
    let (log, _) = Log::open(directory(), &bench.options).unwrap();
    fill(&log, 5);
    let names = bench.disk.names();
    let sealed = names.iter().filter(|name| name.to_string_lossy().ends_with(".jsonl.zst")).count();
    assert!(sealed >= 5, "{names:?}");
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".tmp")));
    let records = bench.records();
    assert!(records.iter().enumerate().all(|(at, record)| record.seq == at as u64));
    assert_eq!(records.len(), 2 + 60 + 1 + 5);
    assert_eq!(bench.verify().unwrap().records, 68);
    let late = bench.reader().records(50).next().unwrap().unwrap();
    assert_eq!(late.seq, 50);
    assert_eq!(
        bench.reader().last(3).unwrap().iter().map(|record| record.seq).collect::<Vec<_>>(),
        [65, 66, 67]
    );
}

#[test]
fn keys_rotate_and_only_the_new_one_goes_on() {
    let mut bench = Bench::new();
    let log = bench.open();
    log.append(&Event::new("test.event", "{}")).unwrap();
    for seed in [2, 3] {
        log.rotate(&key(seed)).unwrap();
        log.append(&Event::new("test.event", "{}")).unwrap();
    }
    log.close().unwrap();
    let verified = bench.verify().unwrap();
    assert_eq!(verified.keys, [key(1).key_id(), key(2).key_id(), key(3).key_id()]);
    let error = bench.try_open().err().unwrap();
    assert!(matches!(error, LogError::WrongKey { .. }), "{error}");
    bench.options.signing_key = key(3);
    fill(&bench.open(), 1);
    assert_eq!(bench.verify().unwrap().records, 9);
    let records = bench.records();
    assert_eq!(records[3].event_type, "key.rotated");
    assert_eq!(records[3].key, key(1).key_id().to_string());
    assert_eq!(records[4].key, key(2).key_id().to_string());
}

#[test]
fn a_log_whose_last_record_is_a_rotation_opens_and_verifies() {
    let mut bench = Bench::new();
    let log = bench.open();
    log.rotate(&key(2)).unwrap();
    log.close().unwrap();
    assert_eq!(bench.verify().unwrap().records, 3);
    bench.options.signing_key = key(2);
    fill(&bench.open(), 1);
    assert_eq!(bench.verify().unwrap().records, 5);
}

#[test]
fn a9_a_second_opener_is_refused_and_the_first_is_not_disturbed() {
    let bench = Bench::new();
    let log = bench.open();
    let error = bench.try_open().err().unwrap();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    fill(&log, 3);
    bench.open().close().unwrap();
    assert_eq!(bench.verify().unwrap().records, 6);
}

#[test]
fn an_application_cannot_write_a_runtimes_log_nor_the_other_way_round() {
    for (owner, other) in [(Owner::Runtime, Owner::Application), (Owner::Application, Owner::Runtime)] {
        let mut bench = Bench::new();
        bench.options.owner = owner;
        fill(&bench.open(), 1);
        bench.options.owner = other;
        let error = bench.try_open().err().unwrap();
        assert!(matches!(error, LogError::Owned { .. }), "{error}");
        assert!(error.to_string().contains(owner.as_str()));
        assert_eq!(bench.reader().summary().unwrap().owner, owner.as_str());
    }
}

#[test]
fn events_that_cannot_be_recorded_are_refused_and_change_nothing() {
    let bench = Bench::new();
    let log = bench.open();
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(symbi_audit::RECORD_BYTES_MAX));
    for event in [
        Event::new("key.rotated", "{}"),
        Event::new("log.opened", "{}"),
        Event::new("no good", "{}"),
        Event::new("test.event", &long),
    ] {
        assert!(matches!(log.append(&event), Err(LogError::Event { .. })));
        assert!(matches!(log.append_many(&[event]), Err(LogError::Event { .. })));
    }
    fill(&log, 1);
    assert_eq!(bench.verify().unwrap().records, 3);
}

#[test]
fn a_closed_log_takes_nothing_and_says_so() {
    let bench = Bench::new();
    let log = bench.open();
    log.close().unwrap();
    assert_eq!(log.status(), LogStatus::Closed);
    assert!(matches!(log.append(&Event::new("test.event", "{}")), Err(LogError::Unavailable { .. })));
    log.close().unwrap();
}

#[test]
fn a7_a_clock_that_stands_still_keeps_the_order_and_is_no_anomaly() {
    let mut bench = Bench::new();
    let stuck = std::sync::Arc::new(symbi_testkit::FakeClock::new());
    bench.options.clock = stuck;
    fill(&bench.open(), 50);
    fill(&bench.open(), 50);
    let records = bench.records();
    assert!(records.windows(2).all(|pair| pair[0].timestamp_us == pair[1].timestamp_us));
    assert!(records.iter().all(|record| record.event_type != "clock.anomaly"));
    assert_eq!(bench.verify().unwrap().records, 103);
}

#[test]
fn a7_clock_jumps_are_events_and_time_never_goes_back() {
    let bench = Bench::new();
    let log = bench.open();
    let start_us = symbi_testkit::FakeClock::START_US;
    let hour_us = 3_600_000_000;
    let append = || log.append(&Event::new("test.event", "{}")).unwrap();
    let before = append();
    bench.clock.set_wall_us(start_us - hour_us);
    let behind = append();
    bench.clock.set_wall_us(start_us + 10 * 365 * 24 * hour_us);
    let ahead = append();
    assert!(log.time().jumped_us > 10 * 365 * 24 * hour_us - 1_000_000);
    assert!(behind.timestamp_us >= before.timestamp_us);
    assert!(ahead.timestamp_us - log.time().jumped_us <= before.timestamp_us + hour_us);
    log.close().unwrap();
    let records = bench.records();
    assert_eq!(records.iter().filter(|record| record.event_type == "clock.anomaly").count(), 2);
    assert!(records.windows(2).all(|pair| pair[0].timestamp_us <= pair[1].timestamp_us));
    bench.verify().unwrap();

    bench.clock.set_wall_us(start_us);
    fill(&bench.open(), 1);
    let records = bench.records();
    assert_eq!(records.iter().filter(|record| record.event_type == "clock.anomaly").count(), 3);
    bench.verify().unwrap();
}

#[test]
fn queries_find_what_was_asked_for_and_nothing_else() {
    let bench = Bench::new();
    let log = bench.open();
    let agents: Vec<AgentId> = (0..3).map(|_| AgentId::random(&SystemEntropy)).collect();
    for at in 0..30 {
        let event_type = if at % 2 == 0 { "tool.called" } else { "tool.denied" };
        let event = Event { agent_id: Some(agents[at % 3]), ..Event::new(event_type, "{}") };
        log.append(&event).unwrap();
    }
    log.append(&Event { agent_text: Some("na\"me"), ..Event::new("x", "{}") }).unwrap();
    log.close().unwrap();
    let ask = |query: Query| bench.reader().query(&query).unwrap();
    let one = Some(agents[0].to_string());
    assert_eq!(ask(Query { agent_id: one.clone(), ..Query::default() }).len(), 10);
    let both = Query { agent_id: one, event_type: Some("tool.denied".into()), ..Query::default() };
    assert_eq!(ask(both.clone()).len(), 5);
    assert_eq!(ask(Query { limit: Some(2), ..both }).len(), 2);
    assert_eq!(ask(Query { event_type: Some("tool.*".into()), ..Query::default() }).len(), 30);
    assert_eq!(ask(Query { agent_id: Some("na\"me".into()), ..Query::default() }).len(), 1);
    let middle = bench.records()[15].timestamp_us;
    let since = ask(Query { since_us: Some(middle), ..Query::default() });
    let until = ask(Query { until_us: Some(middle), ..Query::default() });
    assert_eq!(since.len() + until.len(), 33);
    assert_eq!(since[0].seq, 15);
}

#[test]
fn a6_a_reader_beside_a_writer_sees_whole_records_in_order_and_catches_up() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 20_000;
    let log = bench.open();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut next = 0;
            let mut records = bench.reader().records(0);
            while next < 1_002 {
                match records.next() {
                    Some(record) => {
                        assert_eq!(record.unwrap().seq, next);
                        next += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        let checker = scope.spawn(|| {
            for _ in 0..20 {
                bench.verify().unwrap();
            }
        });
        for at in 0..1_000 {
            log.append(&Event::new("test.event", &format!(r#"{{"at":{at}}}"#))).unwrap();
        }
        reader.join().unwrap();
        checker.join().unwrap();
    });
    log.close().unwrap();
    assert!(bench.disk.content(&path("head")).is_some());
}
