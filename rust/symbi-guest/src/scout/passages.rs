//! Cutting a text into passages: at paragraphs where it can, never inside a finding.

use symbi_detect::Finding;

/// Aimed length of a passage, bytes: some 200 words, what a search can rank and a person read.
const PASSAGE_BYTES: usize = 1_200;

/// One passage: bytes `start` to `end` of the file.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) labels: Vec<&'a str>,
    pub(crate) findings: Vec<&'a Finding>,
}

/// The passages of `text`, which together are the text (S3). An empty text has none.
pub(crate) fn split<'a>(text: &str, found: &'a [Finding]) -> Vec<Passage<'a>> {
    let mut passages = Vec::new();
    let mut start = 0;
    let mut first = 0; // findings before this one end before `start`
    while start < text.len() {
        let end = after_findings(text, border(text, start), found.get(first..).unwrap_or_default());
        let within: Vec<&Finding> =
            found.iter().skip(first).take_while(|finding| finding.start < end).collect();
        first += within.len();
        let mut labels: Vec<&str> = within.iter().map(|finding| finding.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        passages.push(Passage { start, end, labels, findings: within });
        assert!(start < end, "S3");
        start = end;
    }
    passages
}

/// The best place to cut at most `PASSAGE_BYTES` after `start`: after a blank line, a line, a sentence, a word, a letter.
fn border(text: &str, start: usize) -> usize {
    if text.len() - start <= PASSAGE_BYTES {
        return text.len();
    }
    let mut most = start + PASSAGE_BYTES;
    while !text.is_char_boundary(most) {
        most -= 1;
    }
    let window = text.get(start..most).unwrap_or_default();
    let least = PASSAGE_BYTES / 4; // a passage of a few words is worse than one cut at a line
    let cuts =
        ["\n\n", "\n", ". ", " "].into_iter().filter_map(|mark| window.rfind(mark).map(|at| at + mark.len()));
    cuts.into_iter().find(|cut| least < *cut).map_or(most, |cut| start + cut)
}

/// The same border, or the first after it that no finding spans. Findings are in order of their start.
fn after_findings(text: &str, mut end: usize, found: &[Finding]) -> usize {
    for finding in found {
        if end <= finding.start {
            break;
        }
        end = end.max(finding.end);
    }
    end.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) {
        let found = symbi_detect::detect(text);
        let passages = split(text, &found);
        let mut at = 0;
        for passage in &passages {
            assert_eq!(passage.start, at, "S3 no gap, no overlap");
            at = passage.end;
            let part = text.get(passage.start..passage.end).expect("S3 on a character");
            assert!(!part.is_empty());
        }
        assert_eq!(at, text.len(), "S3 the whole text");
        for finding in &found {
            let holders =
                passages.iter().filter(|passage| passage.start < finding.end && finding.start < passage.end);
            assert_eq!(holders.count(), 1, "S3 no border cuts a finding");
        }
        assert_eq!(passages.iter().map(|passage| passage.findings.len()).sum::<usize>(), found.len());
    }

    #[test]
    fn s3_a_long_secret_is_one_passage_and_never_cut() {
        let body = "MIIEpAIBAAKCAQEA1c7+9z5Pad7OejecsQ0bu3aumVkY".repeat(80);
        let text = format!(
            "{}-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\nafter",
            "word ".repeat(230)
        );
        check(&text);
        let found = symbi_detect::detect(&text);
        let passages = split(&text, &found);
        assert!(
            passages
                .iter()
                .any(|passage| passage.labels == ["secret"] && body.len() < passage.end - passage.start)
        );
    }

    #[test]
    fn s3_paragraphs_are_preferred() {
        let text = format!("{}\n\n{}", "one two. ".repeat(100), "three four. ".repeat(100));
        let passages = split(&text, &[]);
        assert!(text[..passages[0].end].ends_with("\n\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn s3_passages_are_the_text(parts in prop::collection::vec(prop::sample::select(vec![
            "word ", "long sentence here. ", "\n\n", "\n", "é", "Patient: Maria Lopez", "password=hunter2 ", "4111 1111 1111 1111",
            "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ]), 0..400)) {
            check(&parts.concat());
        }
    }
}
