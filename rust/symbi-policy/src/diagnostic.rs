//! What is wrong with a policy, where, and what would be right.
//!
//! Why: a policy is code that people are protected by. Its author gets file, line, column, a stable code and the
//! nearest name that exists; Cedar's parser and validator know most of it, in their own form.
//!
//! Invariants
//! - G1 lines and columns are 1-based and count characters, not bytes.
//! - G2 codes are stable; messages are not.

use std::fmt;

use miette::Diagnostic as _;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The set is refused.
    Error,
    /// The set is taken; somebody should look.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// The source's name.
    pub source: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Stable code, such as `policy.syntax`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right, where it is known.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(
        source: &str,
        place: (usize, usize),
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let (line, column) = place;
        let message = one_line(&message.into());
        Self { severity: Severity::Error, source: source.to_owned(), line, column, code, message, help }
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.source, self.line, self.column, self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// All findings as text, one a line, each with its help below it.
#[must_use]
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// G1. An offset past the end, or inside a character, is the place just before it.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    // Asked once a policy, of texts of a mebibyte: line breaks are counted as bytes.
    let before = text.get(..text.ceil_char_boundary(offset)).unwrap_or(text);
    let line = memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    (line, column)
}

/// One of Cedar's findings, with Cedar's help or the nearest of `names`.
pub(crate) fn from_cedar(
    source: &str,
    text: &str,
    fallback: usize,
    code: &'static str,
    finding: &(impl miette::Diagnostic + ?Sized),
) -> Diagnostic {
    let offset =
        finding.labels().and_then(|mut labels| labels.next()).map_or(fallback, |label| label.offset());
    let message = finding.to_string();
    let message = match message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message,
    };
    let help = finding.help().map(|help| one_line(&help.to_string()));
    Diagnostic::error(source, place(text, offset), code, message, help)
}

/// Every finding of a parse.
pub(crate) fn from_parse(
    source: &str,
    text: &str,
    errors: cedar_policy_core::parser::err::ParseErrors,
) -> Vec<Diagnostic> {
    errors
        .into_iter()
        .map(|error| {
            let expected = error
                .labels()
                .and_then(|mut labels| labels.next())
                .and_then(|label| label.label().map(str::to_owned));
            let mut finding = from_cedar(source, text, 0, "policy.syntax", &error);
            finding.help = finding.help.or(expected);
            finding
        })
        .collect()
}

/// The name in `names` nearest to `wrong`, when it is near enough to be meant.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(far, _)| *far <= bound)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two names, in characters; two neighbours swapped are one edit.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut here = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, column + 1) + 1)
                .min(at(&here, column) + 1)
                .min(at(&above, column) + usize::from(from != to));
            let swapped =
                row > 0 && column > 0 && left.get(row - 1) == Some(to) && right.get(column - 1) == Some(from);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            here.push(best);
        }
        before = std::mem::replace(&mut above, here);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_places_count_characters_from_one() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("ab\ncd", 4), (2, 2));
        assert_eq!(place("é\n語x", "é\n語".len()), (2, 2));
        assert_eq!(place("a", 99), (1, 2));
    }

    #[test]
    fn the_nearest_name_is_near_enough_to_be_meant() {
        let names = ["tool.call", "data.read", "id"];
        assert_eq!(nearest("tool.cal", names), Some("tool.call"));
        assert_eq!(nearest("tol.cll", names), Some("tool.call"));
        assert_eq!(nearest("di", names), Some("id"), "a swap is one edit");
        assert_eq!(nearest("key.change", names), None);
    }
}
