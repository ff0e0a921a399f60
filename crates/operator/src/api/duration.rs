//! Durations as people write them in manifests: `250ms`, `90s`, `1h30m`.

use std::time::Duration;

/// What the schema demands of them.
pub(super) const PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

/// Why a duration was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("{text:?} is no duration: expected numbers with units, such as 90s or 1h30m")]
    Malformed { text: String },
    #[error("{text:?} is too long")]
    TooLong { text: String },
}

pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed { text: text.to_owned() };
    let too_long = || DurationError::TooLong { text: text.to_owned() };
    if text.is_empty() {
        return Err(malformed());
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(malformed()),
        };
        if number.is_empty() {
            return Err(malformed());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(milliseconds).ok_or_else(too_long)?;
        sum = sum.checked_add(part).ok_or_else(too_long)?;
        rest = next;
    }
    Ok(Duration::from_millis(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let check = |text, milliseconds| {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        };
        check("250ms", 250);
        check("90s", 90_000);
        check("1h30m", 5_400_000);
        check("2d", 172_800_000);
        check("0s", 0);
        for wrong in ["", "s", "5", "5y", "1h30", "-1s", "1 h"] {
            assert_eq!(duration(wrong), Err(DurationError::Malformed { text: wrong.into() }), "{wrong}");
        }
        let long = "99999999999999999d";
        assert_eq!(duration(long), Err(DurationError::TooLong { text: long.into() }));
    }
}
