//! A text in pieces, and the sentence of it that answers a question.
//!
//! Why: an answer is extracted, never written: what is shown stands in a document, at a range that can be looked up.
//! Not here: who may read it (`knowledge`), words and ranks of a search (`symbi-store`).

/// Most bytes of one piece of a text.
const PIECE_BYTES_MAX: usize = 4_096;

/// A text in paragraphs, the long ones cut; together they are the text.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    for paragraph in text.split_inclusive("\n\n") {
        let mut rest = paragraph;
        while rest.len() > PIECE_BYTES_MAX {
            let cut = (1..=PIECE_BYTES_MAX).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            let (piece, more) = rest.split_at(cut);
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
    }
    pieces
}

/// The words of a question that can tell one sentence from another: four letters or more, lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 3)
        .map(str::to_lowercase)
        .collect()
}

/// The sentence with the most different words of the question: (how many, start, end). None where none has any.
pub(super) fn best_sentence(text: &str, words: &[String]) -> Option<(usize, usize, usize)> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (start, end) in sentences(text) {
        let sentence = text.get(start..end)?.to_lowercase();
        let score = words.iter().filter(|word| sentence.contains(word.as_str())).count();
        if score > 0 && best.is_none_or(|(most, _, _)| most < score) {
            best = Some((score, start, end));
        }
    }
    best
}

/// Byte ranges of the sentences: up to `.`, `!`, `?` before white space, or a line's end; trimmed.
fn sentences(text: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next_is_space = characters.peek().is_none_or(|(_, next)| next.is_whitespace());
        if character == '\n' || (matches!(character, '.' | '!' | '?') && next_is_space) {
            push_trimmed(text, start, at + character.len_utf8(), &mut ranges);
            start = at + character.len_utf8();
        }
    }
    push_trimmed(text, start, text.len(), &mut ranges);
    ranges
}

fn push_trimmed(text: &str, start: usize, end: usize, ranges: &mut Vec<(usize, usize)>) {
    let Some(piece) = text.get(start..end) else { return };
    let left = piece.len() - piece.trim_start().len();
    let trimmed = piece.trim();
    if !trimmed.is_empty() {
        ranges.push((start + left, start + left + trimmed.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_found_by_its_words_and_its_range_is_exact() {
        let text = "Dr. Who is out. The vaccine fridge is checked twice a day!\nCall 112.";
        let (_, start, end) =
            best_sentence(text, &words("How often is the vaccine fridge checked?")).unwrap();
        assert_eq!(&text[start..end], "The vaccine fridge is checked twice a day!");
        assert_eq!(best_sentence(text, &words("kangaroo")), None);
    }

    #[test]
    fn pieces_are_bounded_and_lose_nothing() {
        let text = format!("{}\n\nend", "ü".repeat(5_000));
        assert_eq!(pieces(&text).concat(), text);
        assert!(pieces(&text).iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
    }

    #[test]
    fn sentences_cover_umlauts_and_empty_lines() {
        let text = "Größe: 7.\n\n  Zwei.  ";
        let found: Vec<&str> = sentences(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(found, ["Größe: 7.", "Zwei."]);
    }
}
