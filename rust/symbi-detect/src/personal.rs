//! Data about a person: addresses, numbers with a checksum or a known shape, and fields whose label says what they hold.
//!
//! Not here: names in running text. Without a label a name is a capitalised word, and half of all prose would be one.

use std::sync::LazyLock;

use crate::forms::{Form, Forms, compile, regex};
use crate::trace::{Needs, Trace, any, any_with_digits};
use crate::{Class, Hit, checks};

const fn form(kind: &'static str, needs: Needs, pattern: &'static str, holds: fn(&str) -> bool) -> Form {
    Form { class: Class::Personal, kind, pattern, needs, holds }
}

macro_rules! date {
    () => {
        r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{8}|\d{1,2}(?:st|nd|rd|th|\.)?[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?[ -]\d{4}|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4})"
    };
}

static FORMS: [Form; 14] = [
    form("email", Needs::At, r"(?u:[\w.%+\-])+@(?:(?u:[\w\-])+\.)+(?u:\p{L}){2,24}", checks::email),
    form("ssn", Needs::Digits(9), r"\b\d{3}-\d{2}-\d{4}\b", checks::social_security),
    form("card", Needs::Digits(13), r"\b\d(?:[ \-]?\d){12,18}\b", checks::card),
    form(
        "birth_date",
        any_with_digits(&["dob", "d.o.b", "birth", "born", "geb", "naissance"], 4),
        concat!(
            r"(?i)(?:\b(?:dob|d\.o\.b|date[ _]of[ _]birth|birth[ _]?date|born(?: on)?|geburtsdatum|geb|date de naissance)\b\.?)[\x22']?[ \t]*[:=,]?[ \t]*[\x22']?(?P<x>",
            date!(),
            ")"
        ),
        |_| true,
    ),
    form(
        "person_name",
        any(&["patient", "name", "next of kin", "emergency contact", "guardian", "insured", "employee"]),
        r"(?:(?i:\b(?:patient(?:'s|_| )?(?:full[ _])?(?:name)?|name of patient|full[ _]?name|first[ _]?name|last[ _]?name|surname|given[ _]?name|family[ _]?name|next of kin|emergency contact|guardian|insured|employee(?:[ _]name)?|customer[ _]name))[\x22']?[ \t]*[:=][ \t]*[\x22']?(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?)(?P<x>(?u:\p{Lu}[\p{L}\p{M}'’.\-]+(?:,? \p{Lu}[\p{L}\p{M}'’.\-]*){0,4}))",
        |text| 2 < text.len(),
    ),
    form(
        "person_name",
        any(&["patient"]),
        r"(?i:\bpatients?)[ \t]+(?:(?:Mr|Mrs|Ms|Miss)\.? )(?P<x>(?u:\p{Lu}[\p{L}\p{M}'’\-]+(?: \p{Lu}[\p{L}\p{M}'’\-]+){0,3}))",
        |_| true,
    ),
    form(
        "medical_record",
        any_with_digits(&["mrn", "medical", "patient", "hospital", "chart", "case"], 3),
        r"(?i)\b(?:mrn|medical[ _]record(?:[ _](?:number|no|nr|id))?|patient[ _](?:id|no|number|nr)|hospital (?:no|number)|chart (?:no|number)|case (?:no|number))\b\.?[\x22']?[ \t]*[:#=]?[ \t]*#?[\x22']?(?P<x>[a-z]{0,4}[\-/]?\d[a-z0-9\-/]{2,20})",
        |text| checks::digits(text, 3),
    ),
    form(
        "identity_number",
        any_with_digits(
            &[
                "ssn",
                "social security",
                "national",
                "nhs",
                "passport",
                "tax",
                "insurance",
                "policy holder",
                "driver",
                "steuer",
                "personalausweis",
            ],
            5,
        ),
        r"(?i)\b(?:ssn|social security(?: (?:number|no))?|national (?:id|insurance)(?: (?:number|no))?|nhs(?: (?:number|no))?|passport(?: (?:number|no))?|tax (?:id|number)|insurance (?:number|no|id)|policy holder id|driver'?s? licen[cs]e(?: (?:number|no))?|steuer-?id|personalausweis)\b\.?[\x22']?[ \t]*[:#=]?[ \t]*#?[\x22']?(?P<x>[a-z]{0,3}[ \-]?\d[a-z0-9 \-]{3,18}[a-z0-9])",
        |text| checks::digits(text, 5),
    ),
    form(
        "address",
        any_with_digits(&["address"], 1),
        r"(?i)\b(?:home |street |postal |mailing |billing |residential )?address[\x22']?[ \t]*[:=][ \t]*[\x22']?(?P<x>\d{1,5}[a-z]?,? (?u:\p{L}[^\r\n\x22']+))",
        |text| !text.contains("://"),
    ),
    form(
        "address",
        any_with_digits(&["address"], 1),
        r"(?i)\b(?:home |street |postal |mailing |billing |residential )address[\x22']?[ \t]*[:=][ \t]*[\x22']?(?P<x>(?u:\p{L}[^\r\n\x22']+\d[^\r\n\x22']*))",
        |text| !text.contains("://"),
    ),
    form(
        "health_insurance",
        any_with_digits(&["member", "subscriber", "beneficiary", "medicare", "medicaid"], 4),
        r"(?i)\b(?:member|subscriber|beneficiary|medicare|medicaid)[ _](?:id|number|no)\b\.?[\x22']?[ \t]*[:#=][ \t]*[\x22']?(?P<x>[a-z0-9][a-z0-9\-]{4,20})",
        |text| checks::digits(text, 4),
    ),
    form("phone", Needs::Digits(7), r"\+\d{1,3}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}", checks::phone),
    form("phone", Needs::Digits(10), r"(?:\(\d{3}\) ?|\b\d{3}[ .\-])\d{3}[ .\-]\d{4}\b", checks::phone),
    form(
        "phone",
        any_with_digits(&["phone", "tel", "mobile", "cell", "fax"], 7),
        r"(?i)\b(?:phone|telephone|tel|mobile|cell|fax)\b\.?(?: (?:no|number|nr))?\.?[\x22']?[ \t]*[:=#]?[ \t]*[\x22']?(?P<x>\+?\(?\d[\d \t().\-/]{5,20}\d)",
        checks::phone,
    ),
];

static COMPILED: Forms = LazyLock::new(|| compile(&FORMS));
static IBAN: LazyLock<Option<regex::Regex>> =
    LazyLock::new(|| regex(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,34}"));

const IBAN_NEEDS: Needs = Needs::Digits(2);

pub(crate) fn search(text: &str, trace: &Trace, found: &mut Vec<Hit>) {
    crate::forms::search(&COMPILED, text, trace, found);
    let Some(iban) = IBAN.as_ref().filter(|_| trace.has(IBAN_NEEDS)) else { return };
    for caught in iban.find_iter(text) {
        // From the start of the match only to the end of the text it may reach: the check looks one byte further.
        let tail = text.get(caught.start()..).unwrap_or_default();
        if let Some(bytes) = checks::iban_bytes(tail) {
            found.push(Hit {
                class: Class::Personal,
                kind: "iban",
                start: caught.start(),
                end: caught.start() + bytes,
            });
        }
    }
}

#[cfg(test)]
pub(crate) fn compiled() -> bool {
    COMPILED.compiled.len() == FORMS.len() && IBAN.is_some()
}
