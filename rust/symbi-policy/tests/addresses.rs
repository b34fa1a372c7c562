//! P5: every spelling of a place that must not be reached is that place, and what two parsers read differently is refused.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; tables are its own"
)]

mod common;

use core::net::{IpAddr, Ipv4Addr};

use common::{Dice, cases};
use symbi_policy::{Address, Reach, reach};

const TABLE: &str = include_str!("addresses.tsv");

fn told(text: &str) -> String {
    match Address::parse(text) {
        Ok(address) => format!("{address} {}", address.reach().as_str()),
        Err(_) => "refused".to_owned(),
    }
}

#[test]
fn p5_a_table_of_spellings() {
    let rows: Vec<(&str, &str)> = TABLE.lines().skip(1).map(|line| line.rsplit_once('\t').unwrap()).collect();
    assert!(rows.len() >= 200, "{}", rows.len());
    for (given, wanted) in rows {
        assert_eq!(told(given), wanted, "{given:?}");
    }
}

/// AD1 for every accepted row, and for generated ones.
#[test]
fn p5_the_canonical_text_is_its_own_canonical_text() {
    for line in TABLE.lines().skip(1) {
        let Ok(address) = Address::parse(line.rsplit_once('\t').unwrap().0) else { continue };
        assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()), "{line}");
        let whole = address.in_place_of(line.rsplit_once('\t').unwrap().0);
        assert_eq!(Address::parse(&whole), Ok(address), "{whole}");
    }
}

/// Every way to write an IPv4 number, against the number itself.
#[test]
fn p5_however_a_number_is_written_it_is_the_same_number() {
    for seed in 0..cases(50_000, 5_000_000) {
        let mut dice = Dice::new(seed);
        let number = u32::try_from(dice.next() >> 32).unwrap();
        let octets = number.to_be_bytes();
        let parts = 1 + dice.below(4);
        let mut texts = Vec::new();
        for (place, octet) in octets.iter().enumerate().take(parts) {
            let value = if place + 1 == parts {
                let left = 4 - place;
                u64::from(number) & (u64::MAX >> (64 - 8 * left))
            } else {
                u64::from(*octet)
            };
            texts.push(match dice.below(3) {
                0 => value.to_string(),
                1 => format!("0x{value:x}"),
                _ => format!("0{value:o}"),
            });
        }
        let text = format!("http://{}/", texts.join("."));
        let address = Address::parse(&text).unwrap();
        let ip = Ipv4Addr::from(number);
        assert_eq!(address.to_string(), format!("{ip}:80"), "{text}");
        assert_eq!(address.reach(), reach(IpAddr::V4(ip)));
        // AD3: embedded in any of the ways it reaches no further.
        let [a, b, c, d] = octets;
        for embedded in [
            format!("[::ffff:{ip}]:80"),
            format!("[64:ff9b::{ip}]:80"),
            format!("[2002:{:x}:{:x}::1]:80", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        ] {
            assert_eq!(Address::parse(&embedded).unwrap().reach(), address.reach(), "{embedded}");
        }
    }
}

#[test]
fn p5_what_is_connected_to_is_what_was_decided() {
    for (text, wanted) in [
        ("HTTP://0x7f.1/a?b=http://c@d#e", "http://127.0.0.1:80/a?b=http://c@d#e"),
        ("https://Example.org.?q", "https://example.org:443?q"),
        ("example.org:443", "example.org:443"),
    ] {
        assert_eq!(Address::parse(text).unwrap().in_place_of(text), wanted);
    }
}

#[test]
fn p5_no_text_is_too_strange_to_be_refused_or_canonical() {
    const PIECES: [&str; 28] = [
        "http://",
        "https://",
        "@",
        ":",
        "/",
        "\\",
        "127.0.0.1",
        "localhost",
        ".",
        "..",
        "[",
        "]",
        "::1",
        "%00",
        "%2e",
        "0x",
        "0",
        "80",
        "65536",
        "example.org",
        "é",
        "\u{200b}",
        " ",
        "-",
        "#",
        "?",
        "xn--",
        "\u{0}",
    ];
    for seed in 0..cases(100_000, 20_000_000) {
        let mut dice = Dice::new(seed + 1);
        let text: String = (0..dice.below(8)).map(|_| PIECES[dice.below(PIECES.len())]).collect();
        if let Ok(address) = Address::parse(&text) {
            assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()), "AD1 {text:?}");
            assert!(!text.contains('\\') && !text.contains('%') || text.contains('/'), "AD2 {text:?}");
            // Behind a second `//` it is part of a path, whoever is called.
            let named = text.contains("//localhost/") || text.ends_with("//localhost");
            let machine = named && text.matches("//").count() == 1;
            assert!(!machine || address.reach() == Reach::Machine, "{text:?}");
        }
    }
}
