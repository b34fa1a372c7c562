//! A guard before the parser: text that would become too deep a tree is refused while it is still text.
//!
//! Why: Cedar's parser, validator and destructors recurse once a level. A policy of fifty thousand parentheses, or of
//! as many `&&`, would end the process with a stack overflow, which nothing can catch.
//! Not here: whether the text is right.
//!
//! Invariants
//! - H1 what passes fits the stack that `with_stack` gives: brackets and operators of one policy are both bounded.
//! - H2 strings and comments do not count.

use std::panic::resume_unwind;
use std::thread;

/// Open brackets at one place. People stop at five.
pub(crate) const BRACKETS_MAX: usize = 64;
/// Characters of operators in one policy (`&`, `|`, `.`, `!`, `-`, `+`, `*`, `if`): `a && b && c` is a tree of depth two.
pub(crate) const OPERATORS_MAX: usize = 4_000;
/// Stack for compiling, in bytes: the validator takes a few KiB a level. Only what is touched costs memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Where the text becomes too deep, as a byte offset, and what there is too much of.
pub(crate) fn too_deep(text: &str, brackets: &str) -> Option<(usize, &'static str)> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut rest = text.char_indices().peekable();
    while let Some((at, one)) = rest.next() {
        let next = rest.peek().map(|(_, next)| *next);
        match one {
            '"' => {
                // H2
                while let Some((_, inner)) = rest.next() {
                    if inner == '\\' {
                        rest.next();
                    } else if inner == '"' {
                        break;
                    }
                }
            }
            '/' if next == Some('/') => while rest.next_if(|(_, inner)| *inner != '\n').is_some() {},
            ';' if depth == 0 => operators = 0,
            '&' | '|' | '.' | '!' | '-' | '+' | '*' => operators += 1,
            'i' if next == Some('f') => operators += 1,
            _ if brackets.contains(one) => depth += 1,
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Some((at, "brackets"));
        }
        if operators > OPERATORS_MAX {
            return Some((at, "operators"));
        }
    }
    None
}

/// Pieces of about equal size, cut after a `;` that ends a policy, each with the offset where it begins. `too_deep` has
/// passed the text.
pub(crate) fn pieces(text: &str, count: usize) -> Vec<(usize, &str)> {
    let size = text.len() / count.max(1) + 1;
    let (mut depth, mut from, mut found) = (0_usize, 0_usize, Vec::new());
    let mut rest = text.char_indices().peekable();
    while let Some((at, one)) = rest.next() {
        match one {
            '"' => {
                while let Some((_, inner)) = rest.next() {
                    if inner == '\\' {
                        rest.next();
                    } else if inner == '"' {
                        break;
                    }
                }
            }
            '/' if rest.peek().is_some_and(|(_, next)| *next == '/') => {
                while rest.next_if(|(_, inner)| *inner != '\n').is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 && at + 1 - from >= size => {
                found.extend(text.get(from..=at).map(|piece| (from, piece)));
                from = at + 1;
            }
            _ => {}
        }
    }
    found.extend(text.get(from..).filter(|piece| !piece.trim().is_empty()).map(|piece| (from, piece)));
    found
}

/// Runs `work` on each of `parts`, each on a stack of its own as [`with_stack`] gives. None when the system gives no
/// thread.
pub(crate) fn with_stacks<P: Send, T: Send>(parts: Vec<P>, work: impl Fn(P) -> T + Sync) -> Option<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = parts
            .into_iter()
            .map(|part| {
                thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || work(part))
            })
            .collect::<Result<_, _>>()
            .ok()?;
        Some(
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect(),
        )
    })
}

/// Runs `work` on a stack that what `too_deep` lets through fits into (H1). None when the system gives no thread.
pub(crate) fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let running = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?;
        Some(running.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_a_policy_and_are_the_whole_text() {
        let text =
            "permit (principal, action, resource) when { \"a;b\\\";\" == context.x };\n// one; comment\n"
                .repeat(9);
        for count in [1, 2, 3, 8, 50] {
            let found = pieces(&text, count);
            assert_eq!(found.iter().map(|(_, piece)| *piece).collect::<String>().trim_end(), text.trim_end());
            for (from, piece) in &found {
                assert!(text[*from..].starts_with(piece));
                assert!(
                    piece.trim_end().ends_with("};") || piece.trim_end().ends_with("comment"),
                    "{piece:?}"
                );
            }
            assert!(found.len() <= count + 1 && (count == 1 || found.len() > 1), "{count} {}", found.len());
        }
        assert_eq!(pieces(" \n", 4), vec![]);
    }

    #[test]
    fn h2_strings_and_comments_do_not_count() {
        let hidden = format!("\"{}\\\"(\" // {}\n", "(".repeat(500), "(".repeat(500));
        assert_eq!(too_deep(&hidden, "([{"), None);
    }

    #[test]
    fn h1_brackets_and_operators_are_bounded_at_their_limit() {
        assert_eq!(too_deep(&"(".repeat(BRACKETS_MAX), "([{"), None);
        assert_eq!(too_deep(&"(".repeat(BRACKETS_MAX + 1), "([{"), Some((BRACKETS_MAX, "brackets")));
        assert_eq!(too_deep(&"a && ".repeat(OPERATORS_MAX / 2), "([{"), None);
        assert!(too_deep(&"a && ".repeat(OPERATORS_MAX / 2 + 1), "([{").is_some());
        assert_eq!(too_deep(&"x && y;".repeat(OPERATORS_MAX), "([{"), None, "each policy counts alone");
    }
}
