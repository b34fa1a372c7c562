//! Checks of what a shape caught: checksums, entropy, placeholders.

/// Whether the decimal digits in `text` pass the Luhn check and begin like a card of their length.
pub(crate) fn card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|character| character.to_digit(10)).collect();
    let lead = |count: usize| digits.iter().take(count).fold(0, |value, digit| value * 10 + digit);
    let known = match digits.len() {
        13 | 19 => lead(1) == 4,
        14 => matches!(lead(2), 36 | 38) || matches!(lead(3), 300..=305),
        15 => matches!(lead(2), 34 | 37),
        16 => {
            matches!(lead(1), 4)
                || matches!(lead(2), 51..=55 | 65 | 35)
                || matches!(lead(4), 2221..=2720 | 6011)
        }
        _ => false,
    };
    known && luhn(&digits) && digits.iter().any(|digit| Some(digit) != digits.first())
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |(at, digit): (usize, &u32)| match (at % 2, *digit) {
        (0, digit) => digit,
        (_, digit) if digit < 5 => digit * 2,
        (_, digit) => digit * 2 - 9,
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// Length in bytes of the IBAN that `text` begins with, if one does: ISO 13616, the remainder by 97 is 1.
pub(crate) fn iban_bytes(text: &str) -> Option<usize> {
    const CHARS: std::ops::RangeInclusive<usize> = 15..=34;
    let marks: Vec<(usize, u8)> =
        text.bytes().enumerate().filter(|(_, byte)| *byte != b' ').take(*CHARS.end()).collect();
    // A following word may have been caught too: the longest prefix that ends where a word ends.
    let ends_a_word = |end: usize| !text.as_bytes().get(end).is_some_and(u8::is_ascii_alphanumeric);
    let good = |count: &usize| {
        let Some(country) = marks.get(..*count) else { return false };
        let Some((end, _)) = country.last() else { return false };
        let value = |byte: u8| char::from(byte).to_digit(36);
        let mut rotated = country.iter().skip(4).chain(country.iter().take(4));
        let rest = rotated.try_fold(0u32, |rest, (_, byte)| {
            let value = value(*byte)?;
            Some(if value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 })
        });
        ends_a_word(end + 1) && rest == Some(1)
    };
    let count = CHARS.rev().find(good)?;
    marks.get(count - 1).map(|(end, _)| end + 1)
}

/// US social security numbers that were ever given out.
pub(crate) fn social_security(text: &str) -> bool {
    let mut parts = text.split('-').map(|part| part.parse::<u32>().unwrap_or(0));
    let (area, group, serial) =
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    matches!(area, 1..=665 | 667..=899) && group != 0 && serial != 0
}

/// At least `count` decimal digits.
pub(crate) fn digits(text: &str, count: usize) -> bool {
    count <= text.bytes().filter(u8::is_ascii_digit).count()
}

/// A telephone number has 7 to 15 digits (E.164), not all alike.
pub(crate) fn phone(text: &str) -> bool {
    let found: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    (7..=15).contains(&found.len()) && found.iter().any(|digit| Some(digit) != found.first())
}

/// Endings of file names that look like a domain after an `@` (`logo@2x.png`).
const NOT_DOMAINS: [&str; 8] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css"];

pub(crate) fn email(text: &str) -> bool {
    let ending = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let local = text.split('@').next().unwrap_or_default();
    !NOT_DOMAINS.contains(&ending.as_str()) && local != "git" && !local.starts_with('.')
}

/// Shannon entropy, thousandths of a bit a character.
pub(crate) fn entropy_millibits(text: &str) -> u64 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX).max(1));
    let part = |count: &u32| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    };
    let bits: f64 = counts.iter().filter(|count| 0 < **count).map(part).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8 bits")]
    {
        (bits * 1000.0) as u64
    }
}

/// Words that stand where a secret will be put.
const PLACEHOLDERS: [&str; 22] = [
    "changeme",
    "change-me",
    "change_me",
    "change_it",
    "changeit",
    "example",
    "placeholder",
    "redacted",
    "your-",
    "your_",
    "yourpassword",
    "replace",
    "insert",
    "dummy",
    "undefined",
    "required",
    "optional",
    "xxxx",
    "****",
    "....",
    "none",
    "todo",
];

fn placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let wrapped = lower.starts_with(['<', '[', '{', '$', '%', '*', '(', '@', '&', '\\', '/']);
    wrapped || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

fn classes(value: &str) -> usize {
    let any = |test: fn(&char) -> bool| usize::from(value.chars().any(|character| test(&character)));
    any(char::is_ascii_lowercase)
        + any(char::is_ascii_uppercase)
        + any(char::is_ascii_digit)
        + any(|character| !character.is_ascii_alphanumeric() && !"._-".contains(*character))
}

/// Words that name the thing: as a value they are a field's title, not its content.
const FIELD_WORDS: [&str; 6] = ["password", "passwd", "passphrase", "secret", "token", "key"];

/// Whether a value given to a name such as `password` or `api_key` is a secret and not a word, a type or a variable.
///
/// Bare values need a digit or sign among letters; quoted ones two classes of character, or length with entropy.
pub(crate) fn assigned(value: &str, quoted: bool) -> bool {
    let lower = value.to_ascii_lowercase();
    let names_itself =
        FIELD_WORDS.iter().any(|word| lower.contains(word)) && !value.bytes().any(|b| b.is_ascii_digit());
    let spaced = value.contains(char::is_whitespace);
    if value.len() < 6 || placeholder(value) || names_itself || spaced || entropy_millibits(value) < 2_200 {
        return false;
    }
    let long = 16 <= value.len() && 3_300 <= entropy_millibits(value);
    let digit = value.bytes().any(|byte| byte.is_ascii_digit());
    let letter = value.bytes().any(|byte| byte.is_ascii_alphabetic());
    let sign =
        value.chars().any(|character| !character.is_ascii_alphanumeric() && !"._-:".contains(character));
    let url = lower.starts_with("http://") || lower.starts_with("https://");
    if url {
        return false;
    }
    if quoted {
        2 <= classes(value) || long
    } else {
        letter && (digit || sign) || (long && 3 <= classes(value))
    }
}
