//! Durations and sizes as people write them: `90s`, `5m`, `250ms`, `64MiB`.

use std::time::Duration;

/// Why a quantity was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuantityError {
    #[error("expected a number and a unit, such as {example}")]
    NotANumber { example: &'static str },
    #[error("say a unit, as in {example}")]
    NoUnit { example: String },
    #[error("unknown unit {unit:?}: use one of {known}")]
    UnknownUnit { unit: String, known: &'static str },
    #[error("too large")]
    TooLarge,
}

pub(super) fn duration(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = split(text, "30s or 5m")?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(QuantityError::NoUnit { example: format!("{number}s") }),
        unit => return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known: "ms, s, m, h, d" }),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or(QuantityError::TooLarge)
}

pub(super) fn bytes(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = split(text, "64MiB")?;
    let factor = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unit => return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known: "KiB, MiB, GiB" }),
    };
    number.checked_mul(factor).ok_or(QuantityError::TooLarge)
}

fn split<'a>(text: &'a str, example: &'static str) -> Result<(u64, &'a str), QuantityError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(QuantityError::NotANumber { example });
    }
    let number = number.parse().map_err(|_| QuantityError::TooLarge)?;
    Ok((number, unit.trim()))
}

/// `1.4 MiB`, for people.
pub(super) fn shown_bytes(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

/// `1d 4h`, `5m 30s`, `250ms`: the two largest units, for people.
pub(super) fn shown_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("2 d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("5").unwrap_err().to_string(), "say a unit, as in 5s");
        assert_eq!(duration("5y").unwrap_err().to_string(), "unknown unit \"y\": use one of ms, s, m, h, d");
        assert_eq!(duration("s"), Err(QuantityError::NotANumber { example: "30s or 5m" }));
        assert_eq!(duration("99999999999999999d"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn sizes_are_binary_unless_they_say_otherwise() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("10kB"), Ok(10_000));
        assert_eq!(bytes("12"), Ok(12));
        assert_eq!(
            bytes("1TiB").map_err(|error| error.to_string()).unwrap_err(),
            "unknown unit \"TiB\": use one of KiB, MiB, GiB"
        );
    }

    #[test]
    fn quantities_are_shown_in_their_largest_units() {
        assert_eq!(shown_bytes(1_468_006), "1.4 MiB");
        assert_eq!(shown_bytes(12), "12 B");
        assert_eq!(shown_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(shown_duration(Duration::from_secs(100_000)), "1d 3h");
        assert_eq!(shown_duration(Duration::from_secs(60)), "1m");
    }
}
