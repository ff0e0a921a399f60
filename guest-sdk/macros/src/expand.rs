//! The generated code: the function as it was, and beside it a type of the same name that carries what
//! the grid needs. Types and functions have names of their own in Rust, so both can be called `debit`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Error, ItemFn, Result};

use crate::options::{Format, Options};
use crate::signature::{Returns, Signature};

/// The longest name that the grid takes; the same as everywhere in Wattle.
const MAX_NAME_BYTES: usize = 128;

pub(crate) fn processor(options: &Options, signature: &Signature, function: &ItemFn) -> Result<TokenStream> {
    let (name, name_span) = grid_name(options, function);
    check_name(&name, name_span)?;
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let format = format_type(options.format);
    let deterministic = options.deterministic;
    let read_only = signature.read_only;
    let body = body(signature, function, &format);
    Ok(quote! {
        #function

        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "it has the name of the function that it stands for")]
        #[derive(Debug)]
        #visibility enum #ident {}

        impl ::wattle_guest::Processor for #ident {
            type Format = #format;
            const FUNCTION: ::wattle_guest::Function = {
                fn run(
                    call: &::wattle_guest::__private::Call<'_>,
                    answers: &mut ::wattle_guest::__private::Answers<'_>,
                ) -> ::core::result::Result<(), ::wattle_guest::Failure> {
                    #body
                }
                ::wattle_guest::__private::function(#name, #read_only, #deterministic, run)
            };
        }
    })
}

fn body(signature: &Signature, function: &ItemFn, format: &TokenStream) -> TokenStream {
    let ident = &function.sig.ident;
    let entry = if signature.read_only {
        quote_spanned! { signature.entry=> let entry = call.entry::<#format, _>()?; }
    } else {
        quote_spanned! { signature.entry=> let mut entry = call.entry::<#format, _>()?; }
    };
    let reference = if signature.read_only { quote!(&entry) } else { quote!(&mut entry) };
    let invocation = match signature.argument {
        Some(span) => {
            let argument = quote_spanned! { span=> call.argument::<#format, _>()? };
            quote! { #ident(#reference, #argument) }
        }
        None => quote! { #ident(#reference) },
    };
    let (response, span) = match signature.returns {
        Returns::Response(span) => (invocation, span),
        Returns::Result(span) => (quote! { #invocation? }, span),
    };
    let conclude = if signature.read_only {
        quote! { answers.keep() }
    } else {
        quote! { answers.conclude::<#format, _>(&entry) }
    };
    let respond = quote_spanned! { span=> answers.respond::<#format, _>(&response)?; };
    quote! {
        #entry
        #[allow(clippy::let_unit_value, reason = "a function may answer nothing")]
        let response = #response;
        #respond
        #conclude
    }
}

fn format_type(format: Format) -> TokenStream {
    match format {
        Format::Json => quote!(::wattle_guest::format::Json),
        Format::MessagePack => quote!(::wattle_guest::format::MessagePack),
        Format::Postcard => quote!(::wattle_guest::format::Postcard),
        Format::Raw => quote!(::wattle_guest::format::Raw),
    }
}

fn grid_name(options: &Options, function: &ItemFn) -> (String, Span) {
    match &options.name {
        Some(name) => (name.value(), name.span()),
        None => (function.sig.ident.unraw().to_string(), function.sig.ident.span()),
    }
}

fn check_name(name: &str, span: Span) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        let message =
            format!("a function's name is 1 to {MAX_NAME_BYTES} of the characters A-Z a-z 0-9 . _ -");
        return Err(Error::new(span, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_limit_and_one_past_it() {
        let check = |name: &str| check_name(name, Span::call_site()).is_ok();
        assert!(check("flight-delay.v2_x"));
        assert!(check(&"n".repeat(MAX_NAME_BYTES)));
        assert!(!check(&"n".repeat(MAX_NAME_BYTES + 1)));
        assert!(!check(""));
        assert!(!check("größe"));
        assert!(!check("a b"));
    }
}
