//! What opens doors: private keys, tokens of well-known makers, values given to names such as `password`.
//!
//! Not here: high-entropy text without a name or a maker's prefix. In code and data most of it is a digest.

use std::sync::LazyLock;

use regex::Regex;

use crate::forms::{Form, Forms, compile, regex};
use crate::trace::{Needs, Trace, any};
use crate::{Class, Hit, checks};

const fn form(kind: &'static str, needs: &'static [&'static str], pattern: &'static str) -> Form {
    Form { class: Class::Secret, kind, pattern, needs: any(needs), holds: |_| true }
}

/// Tokens that say themselves what they are.
static FORMS: [Form; 18] = [
    form("aws_access_key", &["akia", "asia"], r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    form("gcp_api_key", &["aiza"], r"\bAIza[0-9A-Za-z_\-]{35}"),
    form("google_token", &["ya29."], r"\bya29\.[0-9A-Za-z_\-]{20,}"),
    form("github_token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
    form("github_token", &["github_pat_"], r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
    form("gitlab_token", &["glpat-"], r"\bglpat-[A-Za-z0-9_\-]{20,}"),
    form("slack_token", &["xox"], r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}"),
    form("slack_token", &["xapp-"], r"\bxapp-[0-9]-[A-Za-z0-9\-]{10,}"),
    form(
        "slack_webhook",
        &["hooks.slack.com"],
        r"\bhooks\.slack\.com/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+",
    ),
    form("stripe_key", &["sk_", "rk_"], r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    form("model_api_key", &["sk-"], r"\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_\-]*[0-9][A-Za-z0-9_\-]{19,}"),
    form("npm_token", &["npm_"], r"\bnpm_[A-Za-z0-9]{36}\b"),
    form("pypi_token", &["pypi-age"], r"\bpypi-AgE[A-Za-z0-9_\-]{50,}"),
    form("model_hub_token", &["hf_"], r"\bhf_[A-Za-z0-9]{30,}\b"),
    form("sendgrid_key", &["sg."], r"\bSG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}"),
    form("jwt", &["eyj"], r"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}"),
    form(
        "authorization",
        &["authorization"],
        r"(?i)\bauthorization[\x22']?\s*[:=]\s*[\x22']?(?:bearer|basic|token)\s+(?P<x>[a-z0-9._~+/=\-]{16,})",
    ),
    Form {
        class: Class::Secret,
        kind: "url_password",
        needs: any(&["://"]),
        pattern: r"\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://(?u:[^\s/:@\x22'<>])*:(?P<x>(?u:[^\s/@\x22'<>])+)@",
        holds: |text| {
            2 < text.len()
                && !text.starts_with(['$', '{', '<', '[', '%', '*'])
                && !text.eq_ignore_ascii_case("password")
        },
    },
];

static COMPILED: Forms = LazyLock::new(|| compile(&FORMS));

/// A name that says its value is a secret, whole or at its end, then `=`, `:`, `:=` or `=>`, then the value.
/// Groups: `q` opening quote, then `d` in double, `s` in single quotes, or `b` bare.
const ASSIGNMENT: &str = r#"(?ix)
    \b [a-z0-9_.\-]*?
    (?: password | passwd | passphrase | passcode | pwd | secret | token | credentials? | api[_\-\x20]?key | apikey
      | access[_\-]?key | private[_\-]?key | secret[_\-]?key(?:[_\-]?base)? | signing[_\-]?key | encryption[_\-]?key
      | master[_\-]?key | account[_\-]?key | auth[_\-]?key | license[_\-]?key | webhook[_\-]?key | recovery[_\-]?code
      | (?-i: [A-Z0-9_]*_(?:PASS|KEY|PW|DSN|AUTH)) )
    ["'`]? [\x20\t]* (?: := | => | = | : ) [\x20\t]*
    (?: " (?P<d>(?u:[^"\r\n])+) " | ' (?P<s>(?u:[^'\r\n])+) ' | ` (?P<t>(?u:[^`\r\n])+) `
      | (?P<b>(?u:[^\s"'`,;<>(){}\[\]|])+) )
"#;

static ASSIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| regex(ASSIGNMENT));

const KEY_BEGIN: &str = r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----";
const KEY_END: &str = r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----";

static KEY_MARKS: LazyLock<Option<(Regex, Regex)>> =
    LazyLock::new(|| Some((regex(KEY_BEGIN)?, regex(KEY_END)?)));

/// Without one of these there is no `ASSIGNMENT`: each of its names has one in it.
const ASSIGNED_NEEDS: Needs = any(&[
    "passw",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "credential",
    "key",
    "recovery",
    "_pass",
    "_pw",
    "_dsn",
    "_auth",
]);
const KEY_NEEDS: Needs = any(&["-----begin"]);

pub(crate) fn search(text: &str, trace: &Trace, found: &mut Vec<Hit>) {
    if trace.has(KEY_NEEDS) {
        private_keys(text, found);
    }
    crate::forms::search(&COMPILED, text, trace, found);
    if trace.has(ASSIGNED_NEEDS) {
        assignments(text, found);
    }
}

/// From BEGIN to its END; without an END to where the base64 ends, for half a key is a key.
fn private_keys(text: &str, found: &mut Vec<Hit>) {
    let Some((begin, end)) = &*KEY_MARKS else { return };
    let mut ends = end.find_iter(text).peekable();
    let mut done = 0;
    for head in begin.find_iter(text) {
        if head.start() < done {
            continue;
        }
        while ends.peek().is_some_and(|mark| mark.start() < head.end()) {
            ends.next();
        }
        let body = |character: char| {
            character.is_ascii_alphanumeric() || character.is_whitespace() || "+/=\\:,-.".contains(character)
        };
        let rest = text.get(head.end()..).unwrap_or_default();
        let bare = || head.end() + rest.find(|character| !body(character)).unwrap_or(rest.len());
        done = ends.peek().map_or_else(bare, regex::Match::end);
        found.push(Hit { class: Class::Secret, kind: "private_key", start: head.start(), end: done });
    }
}

fn assignments(text: &str, found: &mut Vec<Hit>) {
    let Some(assigned) = &*ASSIGNED else { return };
    for caught in assigned.captures_iter(text) {
        let quoted = caught.name("d").or_else(|| caught.name("s")).or_else(|| caught.name("t"));
        let Some(value) = quoted.or_else(|| caught.name("b")) else { continue };
        // A bare value that goes on with a bracket is a call or an index, not a value.
        let expression = text.as_bytes().get(value.end()).is_some_and(|byte| b"([{<".contains(byte));
        // Its end is taken too, even a full stop: a sign too many is better than one too few.
        let good = match quoted {
            Some(_) => checks::assigned(value.as_str(), true),
            None => !expression && checks::assigned(value.as_str(), false),
        };
        if good {
            let (start, end) = (value.start(), value.end());
            found.push(Hit { class: Class::Secret, kind: "assigned_secret", start, end });
        }
    }
}

#[cfg(test)]
pub(crate) fn compiled() -> bool {
    COMPILED.compiled.len() == FORMS.len() && ASSIGNED.is_some() && KEY_MARKS.is_some()
}
