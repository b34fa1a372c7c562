//! Timestamps as text, and the log's own time (A7).

use symbi_types::Moment;

/// A wall clock that moves this much more, or less, than the monotonic one between two readings has been set.
/// Above what leap smearing and suspend-free drift do, below what moves a policy's window.
pub(crate) const JUMP_US: u64 = 10_000_000;

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub(crate) const TIMESTAMP_BYTES: usize = 27;
const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31T23:59:59.999999Z: the last time that has four digits for its year.
pub(crate) const TIME_MAX_US: u64 = 253_402_300_799_999_999;

/// Year, month, day of a day number since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The day number of a date; `None` where there is no such date.
fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let month_shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month_shifted + 2) / 5 + day - 1;
    let year_of_era = shifted_year % 400;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let number = (shifted_year / 400 * 146_097 + of_era).checked_sub(719_468)?;
    (civil(number) == (year, month, day)).then_some(number)
}

/// Formats timestamps; keeps the last second's text, for most readings share it.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Stamp {
    /// Appends the text of `time_us`.
    pub(crate) fn write(&mut self, time_us: u64, out: &mut Vec<u8>) {
        let time_us = time_us.min(TIME_MAX_US);
        let second = time_us / 1_000_000;
        if self.second != Some(second) {
            let (year, month, day) = civil(second / DAY_SECONDS);
            let of_day = second % DAY_SECONDS;
            let (hour, minute) = (of_day / 3_600, of_day / 60 % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.", of_day % 60);
            self.text = text.into_bytes();
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        let mut fraction = *b"000000Z";
        let mut rest = time_us % 1_000_000;
        for digit in fraction.iter_mut().take(6).rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

/// An instant, microseconds since the Unix epoch, as a record has it.
pub(crate) fn text(time_us: u64) -> String {
    let mut out = Vec::new();
    Stamp::default().write(time_us, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Microseconds since the Unix epoch of a timestamp; `None` for any other spelling.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != TIMESTAMP_BYTES {
        return None;
    }
    for (at, sign) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')] {
        if bytes.get(at) != Some(&sign) {
            return None;
        }
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        bytes
            .get(from..to)?
            .iter()
            .try_fold(0u64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
    };
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let day = day_number(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    Some(((day * DAY_SECONDS) + hour * 3_600 + minute * 60 + second) * 1_000_000 + number(20, 26)?)
}

/// The log's time: max(wall, last), and how far the wall clock was set forwards in all.
#[derive(Debug)]
pub(crate) struct Timeline {
    last: Moment,
    log_us: u64,
    jumped_us: u64,
    start_mono_ns: u64,
}

/// A wall clock that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    /// What it said.
    pub(crate) wall_us: u64,
    /// What it would have said had it gone on.
    pub(crate) expected_us: u64,
}

impl Timeline {
    /// Goes on from the time of the log's last record. A clock behind that by more than the bound has been set.
    pub(crate) fn new(now: Moment, last_record_us: u64) -> (Self, Option<Jump>) {
        let behind = last_record_us > now.wall_us.saturating_add(JUMP_US);
        let jump = behind.then_some(Jump { wall_us: now.wall_us, expected_us: last_record_us });
        let log_us = now.wall_us.max(last_record_us).min(TIME_MAX_US);
        (Self { last: now, log_us, jumped_us: 0, start_mono_ns: now.mono_ns }, jump)
    }

    /// Takes a reading.
    pub(crate) fn advance(&mut self, now: Moment) -> Option<Jump> {
        let passed_us = now.mono_ns.saturating_sub(self.last.mono_ns) / 1_000;
        let expected_us = self.last.wall_us.saturating_add(passed_us);
        let jump = (now.wall_us.abs_diff(expected_us) > JUMP_US)
            .then_some(Jump { wall_us: now.wall_us, expected_us });
        if jump.is_some() && now.wall_us > self.log_us {
            let without_us = expected_us.max(self.log_us);
            self.jumped_us = self.jumped_us.saturating_add(now.wall_us.saturating_sub(without_us));
        }
        self.last = now;
        self.log_us = self.log_us.max(now.wall_us.min(TIME_MAX_US));
        jump
    }

    pub(crate) fn log_us(&self) -> u64 {
        self.log_us
    }

    pub(crate) fn jumped_us(&self) -> u64 {
        self.jumped_us
    }

    /// Microseconds since the log was opened.
    pub(crate) fn mono_us(&self) -> u64 {
        self.last.mono_ns.saturating_sub(self.start_mono_ns) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(time_us: u64) -> String {
        let mut out = Vec::new();
        Stamp::default().write(time_us, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_instants_have_their_text() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_735_689_599_999_999, "2024-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (TIME_MAX_US, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(stamp(us), text);
            assert_eq!(parse(text), Some(us));
        }
        assert_eq!(stamp(u64::MAX), stamp(TIME_MAX_US));
    }

    #[test]
    fn every_day_of_eight_centuries_round_trips() {
        for day in 0..292_000u64 {
            let us = day * DAY_SECONDS * 1_000_000 + 12_345_678_901;
            assert_eq!(parse(&stamp(us)), Some(us));
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for bad in [
            "2023-02-29T00:00:00.000000Z",
            "2024-13-01T00:00:00.000000Z",
            "2024-00-01T00:00:00.000000Z",
            "2024-01-00T00:00:00.000000Z",
            "2024-04-31T00:00:00.000000Z",
            "2024-01-01T24:00:00.000000Z",
            "2024-01-01T00:60:00.000000Z",
            "2024-01-01T00:00:60.000000Z",
            "2024-01-01 00:00:00.000000Z",
            "2024-01-01T00:00:00.00000Z",
            "1969-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    fn at(wall_us: u64, mono_us: u64) -> Moment {
        Moment { wall_us, mono_ns: mono_us * 1_000 }
    }

    #[test]
    fn a7_time_stands_still_while_the_clock_is_behind_and_both_jumps_are_seen() {
        let (mut time, jump) = Timeline::new(at(1_000_000_000, 0), 0);
        assert_eq!(jump, None);
        assert_eq!(time.advance(at(1_000_001_000, 1_000)), None);
        let hour = 3_600_000_000;
        let forward = time.advance(at(1_000_001_000 + hour, 1_000)).unwrap();
        assert_eq!(forward.wall_us - forward.expected_us, hour);
        assert_eq!((time.log_us(), time.jumped_us()), (1_000_001_000 + hour, hour));
        assert!(time.advance(at(1_000_002_000, 2_000)).is_some());
        assert_eq!((time.log_us(), time.jumped_us()), (1_000_001_000 + hour, hour));
        assert_eq!(time.mono_us(), 2_000);
    }

    #[test]
    fn a7_a_clock_behind_the_last_record_at_open_is_seen() {
        let (time, jump) = Timeline::new(at(0, 0), 2 * JUMP_US);
        assert!(jump.is_some());
        assert_eq!(time.log_us(), 2 * JUMP_US);
        assert_eq!(Timeline::new(at(JUMP_US, 0), JUMP_US).1, None);
    }
}
