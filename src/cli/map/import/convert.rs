//! From cells to JSON.

use super::csv::Record;
use super::row::{Row, RowError, Shape};

/// Integers beyond this are not told apart by readers that know only floating point.
const LARGEST_INTEGER: u64 = 1 << 53;
/// No more digits survive in a floating point number.
const MOST_DIGITS: usize = 17;

/// What the header of a CSV file makes of its rows.
#[derive(Debug)]
pub(super) struct Columns {
    names: Vec<String>,
    /// Each name as the beginning of a JSON member.
    members: Vec<String>,
    key: Vec<usize>,
    value: Option<usize>,
    shape: Shape,
}

/// Why a header does not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the file has no column {column:?}; it has {}", .columns.join(", "))]
    NoSuchColumn { column: String, columns: Vec<String> },
    #[error("the file has two columns {column:?}")]
    Twice { column: String },
}

impl Columns {
    pub(super) fn new(names: Vec<String>, shape: Shape) -> Result<Self, HeaderError> {
        if let Some(column) = first_twice(&names) {
            return Err(HeaderError::Twice { column });
        }
        let place = |column: &String| {
            let found = names.iter().position(|name| name == column);
            found.ok_or_else(|| HeaderError::NoSuchColumn { column: column.clone(), columns: names.clone() })
        };
        let key = shape.key.iter().map(place).collect::<Result<_, _>>()?;
        let value = shape.value.as_ref().map(place).transpose()?;
        let members = names.iter().map(|name| format!("{}:", json_string(name))).collect();
        Ok(Self { members, key, value, shape, names })
    }

    pub(super) fn row(&self, record: &Record) -> Result<Row, RowError> {
        let (expected, found) = (self.names.len(), record.cells.len());
        if found < expected {
            return Err(RowError::MissingCell { column: self.names[found].clone(), expected, found });
        }
        if found > expected {
            return Err(RowError::TooManyCells { expected, found });
        }
        let value = match self.value {
            Some(place) => self.json(&record.cells[place]).into_bytes(),
            None => self.object(record),
        };
        Ok(Row { line: record.line, key: self.join_key(record)?, value })
    }

    fn join_key(&self, record: &Record) -> Result<String, RowError> {
        let mut key = String::new();
        for (nth, &place) in self.key.iter().enumerate() {
            let cell = &record.cells[place];
            if cell.is_empty() || self.shape.is_null(cell) {
                return Err(RowError::NoKey { column: self.names[place].clone() });
            }
            if nth > 0 {
                key.push(',');
            }
            key.push_str(cell);
        }
        Ok(key)
    }

    fn object(&self, record: &Record) -> Vec<u8> {
        let mut object = String::from("{");
        for (nth, (member, cell)) in self.members.iter().zip(&record.cells).enumerate() {
            if nth > 0 {
                object.push(',');
            }
            object.push_str(member);
            object.push_str(&self.json(cell));
        }
        object.push('}');
        object.into_bytes()
    }

    fn json(&self, cell: &str) -> String {
        if self.shape.is_null(cell) {
            "null".to_owned()
        } else if is_number(cell) {
            cell.to_owned()
        } else {
            json_string(cell)
        }
    }
}

fn first_twice(names: &[String]) -> Option<String> {
    let again = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
    again.map(|(_, name)| name.clone())
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a cell is a number that JSON writes the same way and that loses nothing as one: no leading zeros (they are
/// codes, not numbers), no integers beyond 2^53, no more digits than a floating point number has.
fn is_number(cell: &str) -> bool {
    let unsigned = cell.strip_prefix('-').unwrap_or(cell);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(place) => (&unsigned[..place], Some(&unsigned[place + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let exponent_digits = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let well_formed = is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent_digits.is_none_or(is_digits);
    if !well_formed {
        return false;
    }
    if fraction.is_none() && exponent.is_none() {
        return whole.parse::<u64>().is_ok_and(|whole| whole <= LARGEST_INTEGER);
    }
    whole.len() + fraction.map_or(0, str::len) <= MOST_DIGITS && cell.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(key: &[&str], nulls: &[&str]) -> Shape {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Shape { key: owned(key), value: None, nulls: owned(nulls) }
    }

    fn columns(names: &[&str], shape: Shape) -> Result<Columns, HeaderError> {
        Columns::new(names.iter().map(|&name| name.to_owned()).collect(), shape)
    }

    fn record(cells: &[&str]) -> Record {
        Record { line: 7, cells: cells.iter().map(|&cell| cell.to_owned()).collect() }
    }

    fn check(columns: &Columns, cells: &[&str], key: &str, value: &str) {
        let row = columns.row(&record(cells)).unwrap();
        assert_eq!((row.line, row.key.as_str(), std::str::from_utf8(&row.value).unwrap()), (7, key, value));
    }

    #[test]
    fn a_row_becomes_an_object_and_its_key_is_joined() {
        let columns =
            columns(&["carrier", "flight", "say \"hi\""], shape(&["flight", "carrier"], &[])).unwrap();
        check(&columns, &["UA", "15", "x"], "15,UA", r#"{"carrier":"UA","flight":15,"say \"hi\"":"x"}"#);
    }

    #[test]
    fn null_texts_become_null_and_nothing_else_does() {
        let columns = columns(&["k", "v"], shape(&["k"], &["NA", ""])).unwrap();
        check(&columns, &["1", "NA"], "1", r#"{"k":1,"v":null}"#);
        check(&columns, &["1", ""], "1", r#"{"k":1,"v":null}"#);
        check(&columns, &["1", "na"], "1", r#"{"k":1,"v":"na"}"#);
    }

    #[test]
    fn one_column_may_be_the_value() {
        let columns = columns(&["k", "v"], Shape { value: Some("v".into()), ..shape(&["k"], &[]) }).unwrap();
        check(&columns, &["a", "2.50"], "a", "2.50");
    }

    #[test]
    fn numbers_that_would_lose_something_stay_text() {
        for number in [
            "0",
            "-0",
            "17",
            "-17",
            "9007199254740992",
            "2.50",
            "0.5",
            "1e5",
            "-1.25E-3",
            "40.692500000000001",
        ] {
            assert!(is_number(number), "{number}");
            serde_json::from_str::<f64>(number).unwrap();
        }
        let texts = [
            "",
            "-",
            "007",
            "-01",
            "00",
            "+5",
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551617",
            ".5",
            "5.",
            "1e",
            "1e+",
            "1e999",
            "0x10",
            "1_000",
            "1,5",
            " 1",
            "NaN",
            "Infinity",
            "1234567890.12345678",
            "١",
        ];
        for text in texts {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn a_row_needs_all_cells_and_no_more() {
        let columns = columns(&["k", "v"], shape(&["k"], &[])).unwrap();
        let missing = columns.row(&record(&["1"])).unwrap_err();
        assert!(
            matches!(&missing, RowError::MissingCell { column, expected: 2, found: 1 } if column == "v"),
            "{missing:?}"
        );
        let more = columns.row(&record(&["1", "2", "3"])).unwrap_err();
        assert!(matches!(more, RowError::TooManyCells { expected: 2, found: 3 }), "{more:?}");
    }

    #[test]
    fn a_row_needs_a_key() {
        let columns = columns(&["k", "v"], shape(&["k"], &["NA"])).unwrap();
        for key in ["", "NA"] {
            let refused = columns.row(&record(&[key, "1"])).unwrap_err();
            assert!(matches!(&refused, RowError::NoKey { column } if column == "k"), "{refused:?}");
        }
    }

    #[test]
    fn a_header_names_every_column_once_and_the_key() {
        let unknown = columns(&["a", "b"], shape(&["c"], &[])).unwrap_err();
        assert_eq!(unknown.to_string(), "the file has no column \"c\"; it has a, b");
        let twice = columns(&["a", "a"], shape(&["a"], &[])).unwrap_err();
        assert_eq!(twice, HeaderError::Twice { column: "a".into() });
    }
}
