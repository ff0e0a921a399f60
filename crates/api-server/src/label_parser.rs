//! The grammar of label selectors, and what is wrong with one (apimachinery's `pkg/labels`).

use std::collections::BTreeSet;
use std::fmt;

use serde_json::json;

use crate::error::ApiError;
use crate::field_error::FieldError;
use crate::names;
use crate::selector::{Operator, Requirement};

const OPERATORS: &str = ", expected: in, notin, =, ==, !=, gt, lt";

pub(crate) fn parse_labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    let mut parser = Parser { tokens: scan(text), at: 0 };
    parser.selector().map_err(|error| ApiError::BadRequest(error.to_string()))
}

/// Why a text is no selector.
#[derive(Debug)]
enum SelectorError {
    /// Something stands where only other things may.
    Found {
        token: String,
        expected: &'static str,
    },
    /// Keys and values that are none of labels.
    Fields(Vec<FieldError>),
    InRequirement(Box<Self>),
}

impl SelectorError {
    fn found(token: &Token, expected: &'static str) -> Self {
        Self::Found { token: token.shown(), expected }
    }
}

impl fmt::Display for SelectorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { token, expected } => write!(formatter, "found '{token}'{expected}"),
            Self::Fields(errors) => formatter.write_str(&FieldError::aggregate(errors)),
            Self::InRequirement(error) => write!(formatter, "unable to parse requirement: {error}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A key, a value, or a word that is an operator where one is expected.
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Symbol(symbol) => (*symbol).to_owned(),
            Self::End => String::new(),
        }
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self, Self::Symbol(own) if *own == symbol)
    }
}

fn is_symbol(letter: char) -> bool {
    "=!(),><".contains(letter)
}

fn scan(text: &str) -> Vec<Token> {
    // The longer ones first.
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let is_space = |letter: char| " \t\r\n".contains(letter);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let token = match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                rest = &rest[symbol.len()..];
                Token::Symbol(symbol)
            }
            None => {
                let end = rest.find(|letter| is_symbol(letter) || is_space(letter)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                rest = after;
                Token::Word(word.to_owned())
            }
        };
        tokens.push(token);
        rest = rest.trim_start_matches(is_space);
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn begins(token: &Token) -> bool {
        matches!(token, Token::Word(_)) || token.is("!")
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut all = Vec::new();
        loop {
            let token = self.peek();
            if *token == Token::End {
                return Ok(all);
            }
            if !Self::begins(token) {
                return Err(SelectorError::found(token, ", expected: !, identifier, or 'end of string'"));
            }
            let one = self.requirement().map_err(|why| SelectorError::InRequirement(Box::new(why)))?;
            all.push(one);
            match self.next() {
                Token::End => return Ok(all),
                comma if comma.is(",") => {
                    if !Self::begins(self.peek()) {
                        return Err(SelectorError::found(self.peek(), ", expected: identifier after ','"));
                    }
                }
                other => return Err(SelectorError::found(&other, ", expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let is_negated = self.peek().is("!");
        if is_negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(SelectorError::found(&other, ", expected: identifier")),
        };
        let faults = names::qualified(&key);
        if !faults.is_empty() {
            let error = FieldError::invalid("<nil>", &json!(key), &faults.join("; "));
            return Err(SelectorError::Fields(vec![error]));
        }
        let ends = *self.peek() == Token::End || self.peek().is(",");
        if is_negated || ends {
            let operator = if is_negated { Operator::Missing } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let symbol = self.next();
        let (operator, is_set) = match &symbol {
            Token::Word(word) if word == "in" => (Operator::In, true),
            Token::Word(word) if word == "notin" => (Operator::NotIn, true),
            Token::Symbol("=" | "==") => (Operator::In, false),
            Token::Symbol("!=") => (Operator::NotIn, false),
            Token::Symbol(">") => (Operator::Above, false),
            Token::Symbol("<") => (Operator::Below, false),
            other => return Err(SelectorError::found(other, OPERATORS)),
        };
        let values: Vec<String> =
            if is_set { self.values()?.into_iter().collect() } else { vec![self.value()?] };
        check_values(&key, operator, &values)?;
        Ok(Requirement { key, operator, values })
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        if *self.peek() == Token::End || self.peek().is(",") {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value),
            other => Err(SelectorError::found(&other, ", expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.next();
        if !open.is("(") {
            return Err(SelectorError::found(&open, " expected: '('"));
        }
        let mut values = BTreeSet::new();
        if self.peek().is(")") {
            self.next();
            return Ok(BTreeSet::from([String::new()]));
        }
        if !matches!(self.peek(), Token::Word(_)) && !self.peek().is(",") {
            return Err(SelectorError::found(self.peek(), ", expected: ',', ')' or identifier"));
        }
        loop {
            match self.next() {
                Token::Word(value) => {
                    values.insert(value);
                    if !self.peek().is(",") && !self.peek().is(")") {
                        return Err(SelectorError::found(self.peek(), ", expected: ',' or ')'"));
                    }
                }
                comma if comma.is(",") => {
                    // Between two commas, and at either end, is the empty value.
                    if values.is_empty() || self.peek().is(",") || self.peek().is(")") {
                        values.insert(String::new());
                    }
                }
                close if close.is(")") => return Ok(values),
                other => return Err(SelectorError::found(&other, ", expected: ',', or identifier")),
            }
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), SelectorError> {
    let mut errors = Vec::new();
    let compares = matches!(operator, Operator::Above | Operator::Below);
    for (at, value) in values.iter().enumerate() {
        if compares && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(FieldError::invalid(&format!("values[{at}]"), &json!(value), detail));
        }
        let faults = names::label_value(value);
        if !faults.is_empty() {
            let field = format!("values[{at}][{key}]");
            errors.push(FieldError::invalid(&field, &json!(value), &faults.join("; ")));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(SelectorError::Fields(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let refused = parse_labels(text).map_err(|error| error.message());
        assert!(refused.as_ref().is_err_and(|message| message.starts_with(expected)), "{text}: {refused:?}");
    }

    #[test]
    fn what_is_no_selector_is_refused_as_go_does() {
        check("a=b=c", "found '=', expected: ',' or 'end of string'");
        check(",", "found ',', expected: !, identifier, or 'end of string'");
        check("a,", "found '', expected: identifier after ','");
        check("a in b", "unable to parse requirement: found 'b' expected: '('");
        check("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        check("!", "unable to parse requirement: found '', expected: identifier");
        check("a in (b", "unable to parse requirement: found '', expected: ',' or ')'");
        check("a=(", "unable to parse requirement: found '(', expected: identifier");
    }

    #[test]
    fn keys_and_values_are_those_of_labels() {
        check(
            "-x=1",
            "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of alphanumeric",
        );
        check(
            "n=_b",
            "unable to parse requirement: values[0][n]: Invalid value: \"_b\": a valid label must be an empty string",
        );
        check(
            "n>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be",
        );
    }
}
