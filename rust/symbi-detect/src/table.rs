//! Tables: a header whose columns say that they hold personal data, and the values below it.
//!
//! Why: in a list of appointments no field carries a label of its own; the first line labels them all.
//! Not here: quoted fields with a delimiter inside, which shift no column to the left: then more is found, not less. A
//! part of a table that is searched without its header is not known for one.

use crate::trace::{Needs, Trace, any};
use crate::{Class, Hit};

/// Columns looked at in one table. Wider ones are data of machines.
const COLUMNS_MAX: usize = 64;

/// Delimiters, tried in this order.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];

/// Names of columns, lower case, with `_` for spaces and dashes; and the kind of what stands below.
const COLUMNS: [(&str, &str); 28] = [
    ("patient", "person_name"),
    ("patient_name", "person_name"),
    ("full_name", "person_name"),
    ("first_name", "person_name"),
    ("last_name", "person_name"),
    ("firstname", "person_name"),
    ("lastname", "person_name"),
    ("surname", "person_name"),
    ("given_name", "person_name"),
    ("family_name", "person_name"),
    ("customer_name", "person_name"),
    ("employee_name", "person_name"),
    ("contact_name", "person_name"),
    ("dob", "birth_date"),
    ("date_of_birth", "birth_date"),
    ("birth_date", "birth_date"),
    ("birthdate", "birth_date"),
    ("birthday", "birth_date"),
    ("mrn", "medical_record"),
    ("medical_record_number", "medical_record"),
    ("patient_id", "medical_record"),
    ("ssn", "identity_number"),
    ("passport", "identity_number"),
    ("national_id", "identity_number"),
    ("insurance_number", "identity_number"),
    ("home_address", "address"),
    ("street_address", "address"),
    ("diagnosis", "diagnosis"),
];

/// The column of a table that has one of those above.
const NAME: &str = "name";

/// Without one of these no column has a name of `COLUMNS`.
const NEEDS: Needs = any(&[
    "patient",
    "name",
    "dob",
    "birth",
    "mrn",
    "medical",
    "ssn",
    "passport",
    "national",
    "insurance",
    "address",
    "diagnosis",
]);

pub(crate) fn search(text: &str, trace: &Trace, found: &mut Vec<Hit>) {
    if !trace.has(NEEDS) {
        return;
    }
    let mut table: Option<Table> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']);
        match &table {
            Some(open) if open.holds(body) => open.values(body, at, found),
            _ => table = Table::of(body),
        }
        at += line.len();
    }
}

/// A header that was met.
struct Table {
    delimiter: char,
    width: usize,
    columns: Vec<(usize, &'static str)>,
}

impl Table {
    fn of(line: &str) -> Option<Self> {
        let delimiter = DELIMITERS.into_iter().find(|delimiter| line.contains(*delimiter))?;
        let names: Vec<String> = line.split(delimiter).take(COLUMNS_MAX + 1).map(name).collect();
        if COLUMNS_MAX < names.len() {
            return None;
        }
        let kind = |name: &str| COLUMNS.iter().find(|(column, _)| *column == name).map(|(_, kind)| *kind);
        let mut columns: Vec<(usize, &'static str)> =
            names.iter().enumerate().filter_map(|(index, name)| Some((index, kind(name)?))).collect();
        if columns.is_empty() {
            return None;
        }
        let plain = names.iter().enumerate().filter(|(_, name)| *name == NAME);
        columns.extend(plain.map(|(index, _)| (index, "person_name")));
        Some(Self { delimiter, width: names.len(), columns })
    }

    /// Whether the line is a row: as many fields, or more (a delimiter inside quotes).
    fn holds(&self, line: &str) -> bool {
        self.width <= line.split(self.delimiter).take(self.width).count()
    }

    fn values(&self, line: &str, at: usize, found: &mut Vec<Hit>) {
        let mut start = 0;
        for (index, field) in line.split(self.delimiter).enumerate().take(self.width) {
            let kind = self.columns.iter().find(|(column, _)| *column == index).map(|(_, kind)| *kind);
            let value = field.trim_matches([' ', '"', '\'', '\t']);
            if let Some(kind) = kind.filter(|_| value.chars().any(char::is_alphanumeric)) {
                let from = at + start + field.find(value).unwrap_or(0);
                found.push(Hit { class: Class::Personal, kind, start: from, end: from + value.len() });
            }
            start += field.len() + self.delimiter.len_utf8();
        }
    }
}

fn name(field: &str) -> String {
    field.trim_matches([' ', '"', '\'', '\t', '\u{feff}']).to_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
pub(crate) fn names_are_covered() -> bool {
    COLUMNS.iter().all(|(column, _)| Trace::of(column).has(NEEDS))
}
