//! What may stand in the parentheses of `#[entry_processor(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitStr, Result, Token};

/// How values, arguments and responses are written as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    MessagePack,
    Postcard,
    Raw,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) format: Format,
    pub(crate) deterministic: bool,
    /// What the grid calls the function, when that is not its Rust name.
    pub(crate) name: Option<LitStr>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            if seen.contains(&option) {
                return Err(Error::new(option.span(), format!("`{option}` is given twice")));
            }
            match option.to_string().as_str() {
                "format" => options.format = format_named(&assigned_text(input)?)?,
                "name" => options.name = Some(assigned_text(input)?),
                "deterministic" => options.deterministic = true,
                "read_only" => {
                    let advice = "a function is read-only when its first parameter is `&Entry<…>`: \
                                  no option is needed";
                    return Err(Error::new(option.span(), advice));
                }
                unknown => {
                    let message = format!(
                        "no option is called `{unknown}`; there are `format`, `name` and `deterministic`"
                    );
                    return Err(Error::new(option.span(), message));
                }
            }
            seen.push(option);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn assigned_text(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn format_named(text: &LitStr) -> Result<Format> {
    match text.value().as_str() {
        "json" => Ok(Format::Json),
        "messagepack" => Ok(Format::MessagePack),
        "postcard" => Ok(Format::Postcard),
        "raw" => Ok(Format::Raw),
        unknown => {
            let message = format!(
                "no format is called `{unknown}`; there are `json`, `messagepack`, `postcard` and `raw`"
            );
            Err(Error::new(text.span(), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(options: &str, expected: &str) {
        let Err(error) = syn::parse_str::<Options>(options) else { panic!("accepted: {options}") };
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn no_options_mean_json_under_the_rust_name() {
        let options: Options = syn::parse_str("").unwrap();
        assert_eq!(options.format, Format::Json);
        assert!(options.name.is_none());
        assert!(!options.deterministic);
    }

    #[test]
    fn options_are_read_in_any_order_with_a_trailing_comma() {
        let options: Options =
            syn::parse_str(r#"deterministic, name = "a.b", format = "postcard","#).unwrap();
        assert_eq!(options.format, Format::Postcard);
        assert_eq!(options.name.unwrap().value(), "a.b");
        assert!(options.deterministic);
    }

    #[test]
    fn bad_options_say_what_there_is_instead() {
        check_refused(r#"format = "yaml""#, "there are `json`");
        check_refused("readonly", "no option is called `readonly`");
        check_refused("read_only", "`&Entry<…>`");
        check_refused("deterministic, deterministic", "given twice");
        check_refused("deterministic name", "expected `,`");
        check_refused("name = 5", "string literal");
    }
}
