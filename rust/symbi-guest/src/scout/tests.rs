//! Whole trees through `scan`, hostile ones included.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::FileType;

use super::*;

fn scout(root: &Path, files_max: u64, file_bytes_max: u64) -> Vec<Value> {
    let options = Options { root: root.into(), files_max, file_bytes_max };
    let mut out = Vec::new();
    scan(walk::open_root(root.as_os_str()).unwrap(), &options, &mut out).unwrap();
    out.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn paths<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line["type"] == kind).map(|line| line["path"].as_str().unwrap()).collect()
}

fn skipped(lines: &[Value]) -> Vec<(&str, &str)> {
    let found = lines.iter().filter(|line| line["type"] == "skipped");
    found.map(|line| (line["path"].as_str().unwrap(), line["reason"].as_str().unwrap())).collect()
}

#[test]
fn s2_a_passage_with_a_secret_has_location_and_digest_and_no_text() {
    let text = "The clinic opens at nine.\n\npassword=hunter2\n";
    let root = tree(&[("notes.txt", text)]);
    let lines = scout(root.path(), 10, 1_000);
    let passage = lines.iter().find(|line| line["type"] == "passage").unwrap();
    assert_eq!(passage["labels"], json!(["secret"]));
    assert!(passage["text"].is_null());
    assert_eq!(passage["sha256"], hex(&Sha256::digest(text)));
    assert!(!serde_json::to_string(&lines).unwrap().contains("hunter2"), "S2");
}

#[test]
fn a_personal_passage_has_its_text_and_where_the_findings_are() {
    let text = "Patient: Maria Lopez";
    let root = tree(&[("record.txt", text)]);
    let lines = scout(root.path(), 10, 1_000);
    let passage = lines.iter().find(|line| line["type"] == "passage").unwrap();
    assert_eq!(passage["text"], text);
    let finding = json!({"kind": "person_name", "label": "personal", "start": 9, "end": 20});
    assert_eq!(passage["findings"], json!([finding]));
}

#[test]
fn tool_directories_environments_and_ignored_files_are_skipped_with_their_reason() {
    let root = tree(&[
        ("a.txt", "a"),
        (".git/config", "x"),
        (".symbi/trail", "x"),
        ("env/pyvenv.cfg", "x"),
        ("env/lib/b.txt", "x"),
        ("node_modules/c.js", "x"),
        (".gitignore", "*.log\nout/\n"),
        ("x.log", "x"),
        ("out/y.txt", "x"),
        ("sub/.gitignore", "!keep.log\n"),
        ("sub/keep.log", "x"),
    ]);
    let lines = scout(root.path(), 100, 1_000);
    assert_eq!(paths(&lines, "file"), [".gitignore", "a.txt", "sub/.gitignore", "sub/keep.log"]);
    let expected = [
        (".git", "tool_directory"),
        (".symbi", "tool_directory"),
        ("node_modules", "tool_directory"),
        ("out", "ignored"),
        ("x.log", "ignored"),
        ("env", "virtual_environment"),
    ];
    assert_eq!(skipped(&lines), expected);
}

#[test]
fn g4_links_pipes_sockets_binaries_and_giants_are_named_and_never_opened() {
    let root = tree(&[("a.txt", "a"), ("bin", "x\0y")]);
    let at = |name: &str| root.path().join(name);
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    std::os::unix::fs::symlink("..", at("up")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::File::create(at("sparse")).unwrap().set_len(5 << 30).unwrap();
    fs::write(at("latin"), b"caf\xe9").unwrap();
    fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"na\xffme\n.txt")), "n").unwrap();
    let lines = scout(root.path(), 100, 1_000);
    assert_eq!(paths(&lines, "file"), ["a.txt", "na\\xffme\\x0a.txt"]);
    let expected = [
        ("bin", "binary"),
        ("latin", "not_utf8"),
        ("link", "symlink"),
        ("pipe", "fifo"),
        ("socket", "socket"),
        ("sparse", "too_large"),
        ("up", "symlink"),
    ];
    assert_eq!(skipped(&lines), expected);
}

#[test]
fn s1_every_entry_is_in_a_line_or_in_a_count() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..300 {
        fs::write(root.path().join(format!("{number:03}.txt")), "word").unwrap();
    }
    let lines = scout(root.path(), 100, 1_000);
    let summary = lines.last().unwrap();
    assert_eq!(paths(&lines, "file").len(), 100);
    assert_eq!(
        (&summary["files"], &summary["left_out"], &summary["entries"]),
        (&json!(100), &json!(200), &json!(300))
    );
    assert_eq!(summary["complete"], true);
}

#[test]
fn g4_a_very_deep_tree_ends() {
    let root = tempfile::tempdir().unwrap();
    let mut at = fs::File::open(root.path()).unwrap();
    for _ in 0..400 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let lines = scout(root.path(), 10, 1_000);
    assert_eq!(skipped(&lines).iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), ["too_deep"]);
}

#[test]
fn s4_the_same_tree_gives_the_same_lines() {
    let root = tree(&[("b/c.txt", "c"), ("a.txt", "a"), ("b.txt", "b"), ("b/a.txt", "x")]);
    let lines = scout(root.path(), 10, 1_000);
    assert_eq!(lines, scout(root.path(), 10, 1_000));
    assert_eq!(paths(&lines, "file"), ["a.txt", "b.txt", "b/a.txt", "b/c.txt"]);
}
