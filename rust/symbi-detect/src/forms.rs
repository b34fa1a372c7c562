//! A form: a shape with a name, and what must hold of what it caught.

use std::sync::LazyLock;

use regex::Regex;

use crate::trace::{Needs, Trace, Union};
use crate::{Class, Hit};

/// Compiled size of one automaton, bytes. The largest here takes a tenth; more would mean a repetition gone wrong.
const AUTOMATON_BYTES_MAX: usize = 4 << 20;

/// One shape. What is found is the group `x` where the pattern has one, otherwise the whole match.
pub(crate) struct Form {
    pub(crate) class: Class,
    pub(crate) kind: &'static str,
    pub(crate) pattern: &'static str,
    /// What stands in every text that it is found in.
    pub(crate) needs: Needs,
    /// Of the text caught: whether it is what it looks like.
    pub(crate) holds: fn(&str) -> bool,
}

/// A form with its automaton.
pub(crate) struct Compiled {
    form: &'static Form,
    regex: Regex,
    grouped: bool,
}

/// Forms with their automata.
pub(crate) struct Set {
    pub(crate) compiled: Vec<Compiled>,
    needs: Union,
}

/// Patterns are constants and a test compiles them all, so leaving out one that does not compile is not a silent loss.
pub(crate) fn compile(forms: &'static [Form]) -> Set {
    let one = |form: &'static Form| {
        let regex = regex(form.pattern)?;
        let grouped = regex.capture_names().any(|name| name == Some("x"));
        Some(Compiled { form, regex, grouped })
    };
    let needs = Union::of(forms.iter().map(|form| form.needs));
    Set { compiled: forms.iter().filter_map(one).collect(), needs }
}

/// ASCII classes and borders unless a pattern says `(?u:…)`: the Unicode tables make automata ten times larger, and
/// compiling them all took 75 ms of a process's start.
pub(crate) fn regex(pattern: &str) -> Option<Regex> {
    regex::RegexBuilder::new(pattern).unicode(false).size_limit(AUTOMATON_BYTES_MAX).build().ok()
}

/// A form of a module, compiled when first used.
pub(crate) type Forms = LazyLock<Set>;

pub(crate) fn search(forms: &Set, text: &str, trace: &Trace, found: &mut Vec<Hit>) {
    if !trace.has_any(&forms.needs) {
        return;
    }
    for Compiled { form, regex, grouped } in forms.compiled.iter().filter(|one| trace.has(one.form.needs)) {
        let mut take = |caught: regex::Match<'_>| {
            if (form.holds)(caught.as_str()) {
                found.push(Hit {
                    class: form.class,
                    kind: form.kind,
                    start: caught.start(),
                    end: caught.end(),
                });
            }
        };
        if *grouped {
            regex.captures_iter(text).filter_map(|caught| caught.name("x")).for_each(&mut take);
        } else {
            regex.find_iter(text).for_each(&mut take);
        }
    }
}
