//! `.gitignore`, as much of it as people write: comments, `!`, a leading or inner `/`, a trailing `/`, `*`, `?`, `**`, `[…]`.
//!
//! Why our own: the `ignore` crate brings a parallel walker, globset and crossbeam into a program whose every byte is
//! in the trusted part; what is needed is a pattern turned into a linear-time automaton.
//! Not here: `.git/info/exclude`, a global excludes file, and files that git tracks although they are ignored.

use regex::bytes::{Regex, RegexBuilder};

/// Bytes read of one `.gitignore`, and patterns taken from it. Larger ones are cut: then more is read, not less.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 10;
const PATTERNS_MAX: usize = 1_000;
/// Compiled bytes of one pattern.
const AUTOMATON_BYTES_MAX: usize = 256 << 10;

/// One pattern.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    keeps: bool,
    directories: bool,
}

/// The patterns of one directory's `.gitignore`.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads the file's text. A line that is no pattern is passed over, as git does.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(pattern).take(PATTERNS_MAX).collect())
    }

    /// Whether the last pattern that fits `path`, relative to the file's directory, ignores it. `None`: none fits.
    pub(crate) fn verdict(&self, path: &[u8], directory: bool) -> Option<bool> {
        let fits = |pattern: &&Pattern| (directory || !pattern.directories) && pattern.regex.is_match(path);
        self.0.iter().rev().find(fits).map(|pattern| !pattern.keeps)
    }
}

fn pattern(line: &[u8]) -> Option<Pattern> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.trim_ascii_end();
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let (keeps, line) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest));
    let (directories, line) = line.strip_suffix(b"/").map_or((false, line), |rest| (true, rest));
    let anchored = line.contains(&b'/');
    let line = line.strip_prefix(b"/").unwrap_or(line);
    let text = std::str::from_utf8(line).ok()?; // a name that is no UTF-8 in a pattern: nobody writes that
    let start = if anchored { "^" } else { "^(?:.*/)?" };
    let source = format!("(?s-u){start}{}$", translate(text));
    let regex = RegexBuilder::new(&source).size_limit(AUTOMATON_BYTES_MAX).build().ok()?;
    Some(Pattern { regex, keeps, directories })
}

/// A glob as a regular expression over bytes.
fn translate(glob: &str) -> String {
    let mut out = String::new();
    let mut rest = glob;
    while let Some(character) = rest.chars().next() {
        let (piece, taken) = match character {
            _ if rest.starts_with("**/") => ("(?:.*/)?".to_owned(), 3),
            _ if rest == "**" => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            '[' => class(rest).unwrap_or_else(|| ("\\[".to_owned(), 1)),
            '\\' => {
                let next = rest.chars().nth(1).unwrap_or('\\');
                (literal(next), 1 + if rest.len() == 1 { 0 } else { next.len_utf8() })
            }
            other => (literal(other), other.len_utf8()),
        };
        out.push_str(&piece);
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// One character, byte by byte where it is not ASCII: the automaton is over bytes.
fn literal(character: char) -> String {
    let mut buffer = [0; 4];
    let text = character.encode_utf8(&mut buffer);
    if character.is_ascii() {
        regex::escape(text)
    } else {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }
}

/// `[a-z]`, `[!a]`: the class and how many bytes it took.
fn class(rest: &str) -> Option<(String, usize)> {
    let end = rest.get(2..)?.find(']')? + 2;
    let inner = rest.get(1..end)?;
    let (not, inner) = inner.strip_prefix(['!', '^']).map_or(("", inner), |inner| ("^/", inner));
    if !inner.is_ascii() || inner.is_empty() {
        return None;
    }
    let safe: String = inner
        .chars()
        .map(|c| if c == '-' { "-".to_owned() } else { regex::escape(&c.to_string()) })
        .collect();
    Some((format!("[{not}{safe}]"), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &str, path: &str, directory: bool, expected: Option<bool>) {
        let verdict = Patterns::parse(patterns.as_bytes()).verdict(path.as_bytes(), directory);
        assert_eq!(verdict, expected, "`{path}` under `{patterns}`");
    }

    #[test]
    fn patterns_mean_what_git_says_they_mean() {
        check("*.log", "a/b/x.log", false, Some(true));
        check("*.log", "x.logs", false, None);
        check("/build", "build", true, Some(true));
        check("/build", "a/build", true, None);
        check("build/", "a/build", true, Some(true));
        check("build/", "a/build", false, None);
        check("doc/*.txt", "doc/a.txt", false, Some(true));
        check("doc/*.txt", "doc/b/a.txt", false, None);
        check("**/foo", "a/b/foo", false, Some(true));
        check("a/**/b", "a/x/y/b", false, Some(true));
        check("a/**/b", "a/b", false, Some(true));
        check("a/**", "a/x/y", false, Some(true));
        check("*.log\n!keep.log", "keep.log", false, Some(false));
        check("# comment\n\n  \n", "comment", false, None);
        check("\\#x", "#x", false, Some(true));
        check("f[0-9].t?t", "f7.txt", false, Some(true));
        check("f[!0-9]", "f7", false, None);
        check("naïve*", "naïveté", false, Some(true));
        check("a.b", "axb", false, None);
        check("[", "[", false, Some(true));
        check("x\r", "x", false, Some(true));
    }

    #[test]
    fn a_pattern_that_explodes_is_passed_over() {
        check(&"[a-z]*".repeat(5_000), "abc", false, None);
    }
}
