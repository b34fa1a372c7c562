//! What is found, what is not, and what redaction leaves: examples, hostile texts, properties.
//!
//! Not here: rates. `docs/formats/scout.md` has what was measured.

use super::*;
use proptest::prelude::*;

/// Kind and caught text of everything found.
fn found(text: &str) -> Vec<(&'static str, &str)> {
    detect(text).iter().map(|finding| (finding.kind, &text[finding.start..finding.end])).collect()
}

#[track_caller]
fn holds(text: &str, kind: &str, caught: &str) {
    assert_eq!(found(text), vec![(kind, caught)], "in `{text}`");
}

const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1c7+9z5Pad7OejecsQ0b\nu3aumVkY\n-----END RSA PRIVATE KEY-----";

#[test]
fn every_pattern_compiles() {
    assert!(secret::compiled() && personal::compiled());
}

#[test]
fn a_private_key_is_found_whole_and_even_without_its_end() {
    holds(&format!("before\n{KEY}\nafter"), "private_key", KEY);
    let cut = &KEY[..KEY.len() - 29];
    let caught = found(cut);
    assert_eq!(caught[0].0, "private_key");
    assert!(caught[0].1.contains("u3aumVkY"));
    let pgp =
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQdG\n-----END PGP PRIVATE KEY BLOCK-----";
    holds(pgp, "private_key", pgp);
}

#[test]
fn a_public_key_or_a_certificate_is_no_secret() {
    assert_eq!(found("-----BEGIN PUBLIC KEY-----\nMIIBIjANBg\n-----END PUBLIC KEY-----"), vec![]);
    assert_eq!(found("-----BEGIN CERTIFICATE-----\nMIIBIjANBg\n-----END CERTIFICATE-----"), vec![]);
}

#[test]
fn tokens_that_name_their_maker_are_secrets() {
    for (kind, token) in [
        ("aws_access_key", "AKIAIOSFODNN7EXAMPLZ".to_owned()),
        ("gcp_api_key", format!("AIza{}", "Sy0a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q")[..39].to_owned()),
        ("github_token", format!("ghp_{}", "a1B2".repeat(9))),
        ("github_token", format!("github_pat_{}", "a1B2".repeat(9))),
        ("gitlab_token", format!("glpat-{}", "a1B2".repeat(5))),
        ("slack_token", format!("xoxb-{}", "123456789012-abcDEF")),
        ("stripe_key", format!("sk_live_{}", "a1B2".repeat(6))),
        ("model_api_key", format!("sk-proj-{}", "a1B2".repeat(8))),
        ("npm_token", format!("npm_{}", "a1B2".repeat(9))),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N".to_owned()),
    ] {
        holds(&format!("see {token} here"), kind, &token);
    }
    holds("Authorization: Bearer abcdef0123456789abcdef", "authorization", "abcdef0123456789abcdef");
    holds("postgres://admin:s3cr3t-pw@db:5432/x", "url_password", "s3cr3t-pw");
}

#[test]
fn a_value_given_to_a_secret_name_is_a_secret_and_only_the_value_is_caught() {
    for (text, value) in [
        ("password=hunter2", "hunter2"),
        ("PASSWORD = 'Tr0ub4dor&3'", "Tr0ub4dor&3"),
        ("db_password: \"c0rrect-horse\"", "c0rrect-horse"),
        ("api_key: 9f8e7d6c5b4a39281706", "9f8e7d6c5b4a39281706"),
        ("API key: 9f8e7d6c5b4a39281706.", "9f8e7d6c5b4a39281706."),
        ("{\"client_secret\": \"aZ3kQ9xW7v\"}", "aZ3kQ9xW7v"),
        ("export DATABASE_PASS=k9#mQz2!", "k9#mQz2!"),
        (
            "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzKEYab",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzKEYab",
        ),
        ("STRIPE_KEY=rq7Vn2Lw8Xc4", "rq7Vn2Lw8Xc4"),
        ("The VPN password: Winter2024! works", "Winter2024!"),
    ] {
        holds(text, "assigned_secret", value);
    }
}

#[test]
fn ordinary_code_and_prose_have_no_findings() {
    for text in [
        "let token = tokens.next()?;",
        "token = lexer.next_token2(source)",
        "password: str = Field(...)",
        "password: String,",
        "def login(user, password=None):",
        "max_tokens = 128000",
        "token_count: 4096",
        "api_key = os.environ[\"OPENAI_API_KEY\"]",
        "api_key: ${OPENAI_API_KEY}",
        "password: <your password>",
        "password: changeme",
        "\"password\": \"Password\"",
        "label: 'Enter your password'",
        "secret: &'static str",
        "primary_key=True, foreign_key=user_table",
        "The secret: practise every day.",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "version 1.2.3.4567 of 2024-01-02 at 10.0.0.1:8080",
        "elapsed 1700000000000000000 ns, size 1234567890123456",
        "git clone git@github.com:owner/repo.git",
        "image logo@2x.png, @decorator, a @ b",
        "uuid 123e4567-e89b-42d3-a456-426614174000",
        "https://user.example.org:8443/path@x",
        "The patient improved; the patients were seen on 3 May 2021.",
        "Patient: stable, no fever.",
        "address: 0x7fffffffe000",
        "let address: SocketAddr = listener.local_addr()?;",
        "ISBN 978-3-16-148410-0, order 000-12-3456",
        "phone: Option<String>",
        "GB00 0000 0000 0000 0000 00 is no account",
        "for x in range(10): total += x +1 +2",
    ] {
        assert_eq!(found(text), vec![], "in `{text}`");
    }
}

#[test]
fn personal_data_is_found_by_shape_and_checksum() {
    holds("write to jane.roe+x@clinic.example.org today", "email", "jane.roe+x@clinic.example.org");
    holds("call +49 (30) 1234 5678 now", "phone", "+49 (30) 1234 5678");
    holds("call (555) 012-3456 now", "phone", "(555) 012-3456");
    holds("Tel.: 030 1234567", "phone", "030 1234567");
    holds("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "iban", "DE89 3704 0044 0532 0130 00");
    holds("to GB82WEST12345698765432.", "iban", "GB82WEST12345698765432");
    holds("card 4111 1111 1111 1111 exp", "card", "4111 1111 1111 1111");
    holds("ssn 123-45-6789", "ssn", "123-45-6789");
    assert_eq!(found("DE89 3704 0044 0532 0130 01 and 4111 1111 1111 1112"), vec![], "wrong checksums");
}

#[test]
fn labelled_fields_of_a_record_are_personal() {
    holds("Patient: Maria Lopez-Garcia", "person_name", "Maria Lopez-Garcia");
    holds("Patient name: O'Brien, Sean", "person_name", "O'Brien, Sean");
    holds("\"patient_name\": \"Jürgen Müller\"", "person_name", "Jürgen Müller");
    holds("We saw patient Mrs. Ann Weber again", "person_name", "Ann Weber");
    holds("DOB: 1961-04-12", "birth_date", "1961-04-12");
    holds("Date of birth: 12 April 1961", "birth_date", "12 April 1961");
    holds("geb. 12.04.1961", "birth_date", "12.04.1961");
    holds("MRN: 00482913", "medical_record", "00482913");
    holds("MRN #A-48291", "medical_record", "A-48291");
    holds("NHS number: 943 476 5919", "identity_number", "943 476 5919");
    holds("Address: 12 High Street, Oxford", "address", "12 High Street, Oxford");
}

#[test]
fn columns_of_a_table_are_personal_by_their_header() {
    let text = "day,Patient Name,reason,DOB\n2026-03-05,Maria Lopez,control,1968-04-12\n2026-03-06,\"Ann Weber\",,\n\nend, of, it, x\n";
    let caught: Vec<&str> = found(text).into_iter().map(|(_, text)| text).collect();
    assert_eq!(caught, ["Maria Lopez", "1968-04-12", "Ann Weber"]);
    assert_eq!(found("name,version\nserde,1.0\n"), vec![], "a name alone may be anything's");
    assert_eq!(found("name;mrn\nMaria;17\n"), vec![("person_name", "Maria"), ("medical_record", "17")]);
    assert_eq!(found("The patient, who was well, left.\nThe nurse, too, left.\n"), vec![]);
}

#[test]
fn redaction_leaves_the_rest_as_it_was() {
    let text = "Patient: Maria Lopez\nMRN: 00482913, password=hunter2, fine.";
    let personal = redact(text, &one(Label::PERSONAL));
    assert_eq!(
        personal,
        "Patient: [redacted:person_name]\nMRN: [redacted:medical_record], password=hunter2, fine."
    );
    let both = redact(text, &labels(text));
    assert_eq!(
        both,
        "Patient: [redacted:person_name]\nMRN: [redacted:medical_record], password=[redacted:assigned_secret], fine."
    );
    assert_eq!(redact("nothing here", &labels(text)), "nothing here");
    assert_eq!(redact(text, &LabelSet::default()), text);
}

#[test]
fn d3_a_mark_inside_a_secret_does_not_hide_it() {
    let text = KEY.replace("u3aumVkY", "[redacted:email]u3aumVkY");
    assert_eq!(redact(&text, &one(Label::SECRET)), "[redacted:private_key]");
}

#[test]
fn d4_what_is_too_long_to_search_has_every_label_and_is_redacted_whole() {
    let text = " ".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(labels(&text).len(), 2);
    assert_eq!(redact(&text, &one(Label::SECRET)), "[redacted:unsearched]");
}

#[test]
fn d1_hostile_repetitions_take_no_more_than_linear_time() {
    // Each of these makes a backtracking or rescanning detector quadratic: at a megabyte it would not end.
    for part in [
        "-----BEGIN PRIVATE KEY-----",
        "+1",
        "password=",
        "a@",
        "DE89 ",
        "eyJ",
        "1 ",
        "Patient: A ",
        "://a:",
        "[redacted:",
        "-----END PRIVATE KEY-----",
        "patient,x\n",
    ] {
        let text = part.repeat((1 << 20) / part.len());
        let _ = redact(&text, &one(Label::SECRET).union(&one(Label::PERSONAL)));
    }
}

/// Text made of what detectors look for, cut and glued at random.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "password=",
        "hunter2",
        "x9!",
        "api_key: \"",
        "\"",
        " ",
        "\n",
        "Patient: ",
        "Maria ",
        "Lopez",
        "DOB: ",
        "1961-04-12",
        "MRN: 4",
        "82913",
        "DE89 3704 0044 0532 0130 00",
        "4111 1111 1111 1111",
        "+49 30 ",
        "123-45-6789",
        "jane@roe.org",
        "@",
        "name,dob,x\n",
        "a,b,c\n",
        ",",
        "[redacted:",
        "email]",
        "[redacted:x]",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "AKIA",
        "IOSFODNN7EXAMPLZ",
        "eyJhbGciOiJI.eyJzdWIiOiIx.",
        "dozjgNryP4J3",
        "://u:",
        "é",
        "-",
        ".",
        ":",
        "=",
        "0",
        "A",
    ]);
    prop::collection::vec(prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => "\\PC{0,6}"], 0..24)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn d3_after_redaction_nothing_is_found_and_redacting_again_changes_nothing(text in hostile()) {
        for wanted in [one(Label::SECRET), one(Label::PERSONAL), one(Label::SECRET).union(&one(Label::PERSONAL))] {
            let clean = redact(&text, &wanted);
            prop_assert!(detect(&clean).iter().all(|finding| !wanted.contains(finding.label.as_str())), "{clean}");
            prop_assert_eq!(redact(&clean, &wanted), clean);
        }
    }

    #[test]
    fn d2_findings_are_ranges_on_character_borders_in_order(text in hostile()) {
        let found = detect(&text);
        prop_assert!(found.is_sorted_by_key(|finding| finding.start));
        for finding in found {
            prop_assert!(finding.start < finding.end && text.get(finding.start..finding.end).is_some());
        }
    }

    #[test]
    fn the_labels_are_those_of_the_findings(text in hostile()) {
        let of_findings: LabelSet = detect(&text).into_iter().map(|finding| finding.label).collect();
        prop_assert_eq!(labels(&text), of_findings);
    }
}

/// A trace that leaves nothing out.
fn everything(text: &str) -> Vec<Hit> {
    let mut found = Vec::new();
    let trace = crate::trace::Trace::all();
    crate::secret::search(text, &trace, &mut found);
    crate::personal::search(text, &trace, &mut found);
    crate::table::search(text, &trace, &mut found);
    found
}

fn traced(text: &str) -> Vec<Hit> {
    let mut found = Vec::new();
    let trace = crate::trace::Trace::of(text);
    crate::secret::search(text, &trace, &mut found);
    crate::personal::search(text, &trace, &mut found);
    crate::table::search(text, &trace, &mut found);
    found
}

#[test]
fn tr1_no_form_is_left_out_for_want_of_an_automaton() {
    assert!(crate::trace::compiled() && crate::table::names_are_covered());
}

proptest::proptest! {
    /// Fragments of all that is looked for, whole and broken, in any order: what is left out had nothing to find.
    #[test]
    fn tr1_what_is_left_out_would_have_found_nothing(
        parts in proptest::collection::vec(proptest::prop_oneof![
            proptest::sample::select(&FRAGMENTS[..]).prop_map(str::to_owned),
            proptest::sample::select(&FRAGMENTS[..]).prop_map(str::to_uppercase),
            proptest::string::string_regex("[a-zA-Z0-9@:=+,;. _\n-]{0,12}").unwrap(),
        ], 0..12),
        glue in proptest::sample::select(vec!["", " ", ",", "\n"]),
    ) {
        let text = parts.join(glue);
        proptest::prop_assert_eq!(traced(&text), everything(&text));
    }
}

const FRAGMENTS: [&str; 47] = [
    "AKIAABCDEFGHIJKLMNOP",
    "AIza0123456789012345678901234567890123456",
    "ya29.abcdefghijklmnopqrstuvwxyz",
    "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
    "github_pat_0123456789abcdefghijklmn",
    "glpat-0123456789abcdefghij",
    "xoxb-0123456789ab",
    "xapp-1-0123456789ab",
    "hooks.slack.com/services/T0/B0/abc",
    "sk_live_0123456789abcdef",
    "sk-proj-0123456789abcdefghijklmno",
    "npm_0123456789abcdefghijklmnopqrstuvwxyz",
    "hf_0123456789abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abcdefghijk",
    "Authorization: Bearer abcdefghijklmnop1234",
    "https://user:pass-word@host/",
    "password = hunter2-tango",
    "api_key: 'a1b2c3d4e5f6g7h8'",
    "DB_PW=x9y8z7w6v5",
    "recovery code: 1234-abcd-5678",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
    "jane@clinic.example",
    "123-45-6789",
    "4111 1111 1111 1111",
    "DOB: 1980-01-02",
    "born on 2 Jan 1980",
    "Patient: Jane Roe",
    "patient Mr. Doe",
    "Full name = Jane Roe",
    "next of kin: Jane Roe",
    "MRN 12345",
    "case no 4711",
    "ssn 123456789",
    "passport X1234567",
    "tax id 12 345 678",
    "address: 12 Main Street",
    "home address = Main Street 12",
    "member id: A12345",
    "+49 30 1234567",
    "(212) 555-0187",
    "tel 030 1234567",
    "DE89370400440532013000",
    "name,dob,diagnosis",
    "Jane Roe,1980-01-02,flu",
    "patient;mrn",
    "geb. 01.02.1980",
    "date de naissance 01/02/1980",
];
